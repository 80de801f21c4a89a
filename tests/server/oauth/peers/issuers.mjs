// npm's oidc-provider as two issuers: one that does as Google does (offline access by access_type, addresses in the ID
// token), one as a company's (offline access by scope and consent, addresses at userinfo). Whoever comes is asked nothing:
// POST /_control says who they are, and what is wrong with the issuer.
import http from 'node:http'
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { Provider } from 'oidc-provider'

const SECRET = 'a secret: that+only/tests%20have'
const key = () => ({ ...generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig', kid: randomUUID() })
const rsa = () => ({ ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid: randomUUID() })

function issuer (google) {
  const state = { who: 'ada', accounts: {}, answers: null, cancel: false, down: 0, exchanges: 0 }
  const granted = new Set()
  const offline = new Set()
  const jwks = { keys: [rsa(), key()] }
  const known = new Set()
  let provider

  function build (url, redirectUris) {
    for (const one of redirectUris) known.add(one)
    provider = new Provider(url, {
      clients: [{
        client_id: 'innkeeper', client_secret: SECRET, redirect_uris: [...known],
        grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
        id_token_signed_response_alg: google ? 'RS256' : 'ES256',
        token_endpoint_auth_method: google ? 'client_secret_post' : 'client_secret_basic'
      }],
      jwks,
      cookies: { keys: ['tests'], names: { session: `${google ? "google" : "acme"}_session`, interaction: `${google ? "google" : "acme"}_i`, resume: `${google ? "google" : "acme"}_r` } },
      claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
      scopes: google ? ['openid', 'email', 'profile'] : ['openid', 'email', 'profile', 'offline_access'],
      extraParams: ['access_type'],
      conformIdTokenClaims: !google,
      features: { devInteractions: { enabled: false } },
      interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
      pkce: { required: () => true },
      rotateRefreshToken: true,
      issueRefreshToken: async (ctx, client, code) => google ? offline.has(code.grantId) : code.scopes.has('offline_access'),
      ttl: { AccessToken: 60, AuthorizationCode: 60, Grant: 86400, IdToken: 60, Interaction: 600, RefreshToken: 86400, Session: 600 },
      findAccount: async (ctx, sub) => state.accounts[sub] && { accountId: sub, claims: async () => ({ sub, ...state.accounts[sub] }) }
    })
    provider.on('server_error', (ctx, error) => console.error(error))
  }

  async function interact (request, response) {
    if (state.cancel) return provider.interactionFinished(request, response, { error: 'access_denied', error_description: '<b>no</b>' })
    const { prompt, params, session } = await provider.interactionDetails(request, response)
    if (prompt.name === 'login') {
      return provider.interactionFinished(request, response, { login: { accountId: state.who } })
    }
    const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id })
    grant.addOIDCScope(params.scope)
    const grantId = await grant.save()
    // Google gives a refresh token with the first consent, and with one that was asked for.
    const asked = (params.prompt ?? '').includes('consent')
    if (params.access_type === 'offline' && (asked || !granted.has(session.accountId))) offline.add(grantId)
    granted.add(session.accountId)
    return provider.interactionFinished(request, response, { consent: { grantId } }, { mergeWithLastSubmission: true })
  }

  const server = http.createServer(async (request, response) => {
    if (request.url === '/_control') {
      let body = ''
      for await (const part of request) body += part
      const { redirect_uris: redirectUris, ...changes } = JSON.parse(body)
      Object.assign(state, changes)
      if (redirectUris) build(`http://127.0.0.1:${server.address().port}`, redirectUris)
      return response.end(JSON.stringify(state))
    }
    if (state.down) {
      response.statusCode = state.down
      return response.end('<html>a gateway says no</html>')
    }
    if (request.url.startsWith('/interaction/')) return interact(request, response)
    if (request.url === '/token') state.exchanges += 1
    return provider.callback()(request, response)
  })
  return new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(server.address().port)))
}

console.log(JSON.stringify({ google: await issuer(true), acme: await issuer(false) }))
process.stdin.resume().on('end', () => process.exit(0))

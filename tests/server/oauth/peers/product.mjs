// npm's oidc-provider as the issuer of a product's users, below a path. GET /mint?kind= gives what the product's page
// would have of it by then: id_token, access_token (a JWT of an API), or opaque. POST /rotate gives it a new key.
import http from 'node:http'
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { Provider } from 'oidc-provider'

const path = '/tenants/acme'
const key = () => ({ ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid: randomUUID() })
let provider
let url

function build () {
  provider = new Provider(url + path, {
    clients: [{ client_id: 'shop', client_secret: 'a-secret-that-only-tests-have', redirect_uris: ['https://shop.example/back'] }],
    jwks: { keys: [key()] },
    cookies: { keys: ['tests'] },
    features: { devInteractions: { enabled: false } },
    findAccount: async (_ctx, sub) => ({ accountId: sub, claims: async () => ({ sub, name: 'Ann' }) })
  })
}

async function mint (kind) {
  const client = await provider.Client.find('shop')
  const grant = new provider.Grant({ accountId: 'ann', clientId: 'shop' })
  grant.addOIDCScope('openid')
  const grantId = await grant.save()
  if (kind === 'id_token') {
    const token = new provider.IdToken({ sub: 'ann' }, { client })
    token.scope = 'openid'
    token.set('sub', 'ann')
    return await token.issue({ use: 'idtoken' })
  }
  const token = new provider.AccessToken({ accountId: 'ann', client, grantId, scope: 'openid', gty: 'authorization_code' })
  if (kind === 'access_token') {
    const api = { audience: 'shop', accessTokenFormat: 'jwt', accessTokenTTL: 600, jwt: { sign: { alg: 'RS256' } } }
    token.resourceServer = new provider.ResourceServer('urn:shop', api)
  }
  return await token.save()
}

const server = http.createServer(async (request, response) => {
  const asked = new URL(request.url, url)
  if (asked.pathname === '/mint') return response.end(await mint(asked.searchParams.get('kind')))
  if (asked.pathname === '/rotate') return response.end(build() ?? '')
  if (!asked.pathname.startsWith(path + '/')) return response.writeHead(404).end()
  request.originalUrl = request.url
  request.url = request.url.slice(path.length)
  return provider.callback()(request, response)
})
server.listen(0, '127.0.0.1', () => {
  url = `http://127.0.0.1:${server.address().port}`
  build()
  console.log(JSON.stringify({ url, issuer: url + path }))
})

// Every flow with oauth4webapi and with openid-client. Takes a task as JSON, prints one line of JSON: what was seen.
import * as oauth from 'oauth4webapi'
import * as openid from 'openid-client'

const task = JSON.parse(process.argv[2])
const issuer = new URL(task.issuer)
const back = 'http://127.0.0.1:9/back'
const metadata = { client_name: task.library, redirect_uris: [back], token_endpoint_auth_method: 'none' }
const asked = { redirect_uri: back, scope: 'projects:read projects:write', resource: task.resource }

// The person at the browser: allows what is asked for, and says where the browser was sent to.
async function person (path, body) {
  const answer = await fetch(task.person + path, { method: 'POST', body: JSON.stringify(body) })
  return await answer.json()
}

async function callTool (request) {
  const message = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'list_projects', arguments: {} } }
  const headers = new Headers({ 'content-type': 'application/json', accept: 'application/json, text/event-stream' })
  return await request(new URL(task.resource), 'POST', JSON.stringify(message), headers)
}

async function failure (attempt) {
  try {
    await attempt()
  } catch (error) {
    return error.error ?? error.cause?.error ?? String(error.status ?? error.code ?? error)
  }
  return null
}

async function withOauth4webapi () {
  const http = { [oauth.allowInsecureRequests]: true }
  const discovered = await oauth.discoveryRequest(issuer, { ...http, algorithm: 'oauth2' })
  const as = await oauth.processDiscoveryResponse(issuer, discovered)
  const registered = await oauth.dynamicClientRegistrationRequest(as, metadata, http)
  const client = await oauth.processDynamicClientRegistrationResponse(registered)
  const verifier = oauth.generateRandomCodeVerifier()
  const state = oauth.generateRandomState()
  const url = new URL(as.authorization_endpoint)
  const parameters = {
    ...asked, client_id: client.client_id, response_type: 'code', state,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256'
  }
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value)
  const { location } = await person('/allow', { url: url.href })
  const answer = oauth.validateAuthResponse(as, client, new URL(location), state)
  const forResource = { ...http, additionalParameters: { resource: task.resource } }
  const redeemed = await oauth.authorizationCodeGrantRequest(as, client, oauth.None(), answer, back, verifier, forResource)
  const tokens = await oauth.processAuthorizationCodeResponse(as, client, redeemed)
  const bearer = (token) => (target, method, body, headers) =>
    oauth.protectedResourceRequest(token, method, target, headers, body, http)
  const refresh = async (token) => oauth.processRefreshTokenResponse(
    as, client, await oauth.refreshTokenGrantRequest(as, client, oauth.None(), token, forResource))
  const called = await callTool(bearer(tokens.access_token))
  const fresh = await refresh(tokens.refresh_token)
  const calledAgain = await callTool(bearer(fresh.access_token))
  await oauth.processRevocationResponse(
    await oauth.revocationRequest(as, client, oauth.None(), fresh.refresh_token, http))
  const afterRevocation = await failure(() => refresh(fresh.refresh_token))

  const terminal = { client_id: 'innkeeper-cli' }
  const started = await oauth.processDeviceAuthorizationResponse(as, terminal,
    await oauth.deviceAuthorizationRequest(as, terminal, oauth.None(), { scope: 'projects:read' }, http))
  const poll = async () => oauth.processDeviceCodeResponse(
    as, terminal, await oauth.deviceCodeGrantRequest(as, terminal, oauth.None(), started.device_code, http))
  const waiting = await failure(poll)
  await person('/device', { code: started.user_code })
  const device = await poll()

  const service = { client_id: task.service.id }
  const secret = oauth.ClientSecretPost(task.service.secret)
  const served = await oauth.processClientCredentialsResponse(as, service,
    await oauth.clientCredentialsGrantRequest(as, service, secret, { scope: 'projects:read' }, http))
  return {
    scope: tokens.scope, called: called.status, calledAgain: calledAgain.status, afterRevocation,
    waiting, device: (await callTool(bearer(device.access_token))).status,
    service: (await callTool(bearer(served.access_token))).status
  }
}

async function withOpenidClient () {
  const execute = [openid.allowInsecureRequests]
  const options = { execute, algorithm: 'oauth2' }
  const config = await openid.dynamicClientRegistration(issuer, metadata, openid.None(), options)
  const verifier = openid.randomPKCECodeVerifier()
  const state = openid.randomState()
  const url = openid.buildAuthorizationUrl(config, {
    ...asked, state, code_challenge: await openid.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256'
  })
  const { location } = await person('/allow', { url: url.href })
  const checks = { pkceCodeVerifier: verifier, expectedState: state }
  const tokens = await openid.authorizationCodeGrant(config, new URL(location), checks, { resource: task.resource })
  const bearer = (token) => (target, method, body, headers) =>
    openid.fetchProtectedResource(config, token, target, method, body, headers)
  const called = await callTool(bearer(tokens.access_token))
  const fresh = await openid.refreshTokenGrant(config, tokens.refresh_token, { resource: task.resource })
  const calledAgain = await callTool(bearer(fresh.access_token))
  await openid.tokenRevocation(config, fresh.refresh_token)
  const afterRevocation = await failure(() => openid.refreshTokenGrant(config, fresh.refresh_token))

  const terminal = await openid.discovery(issuer, 'innkeeper-cli', undefined, openid.None(), options)
  const started = await openid.initiateDeviceAuthorization(terminal, { scope: 'projects:read' })
  await person('/device', { code: started.user_code })
  const device = await openid.pollDeviceAuthorizationGrant(terminal, { ...started, interval: 0.1 })

  const service = await openid.discovery(
    issuer, task.service.id, undefined, openid.ClientSecretBasic(task.service.secret), options)
  const served = await openid.clientCredentialsGrant(service, { scope: 'projects:read' })
  return {
    scope: tokens.scope, called: called.status, calledAgain: calledAgain.status, afterRevocation,
    waiting: 'authorization_pending', device: (await callTool(bearer(device.access_token))).status,
    service: (await callTool(bearer(served.access_token))).status
  }
}

const flows = { oauth4webapi: withOauth4webapi, 'openid-client': withOpenidClient }
console.log(JSON.stringify(await flows[task.library]()))

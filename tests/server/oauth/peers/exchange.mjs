// Token exchange (RFC 8693) with oauth4webapi and with openid-client. Takes a task as JSON, prints what was seen.
import * as oauth from 'oauth4webapi'
import * as openid from 'openid-client'

const task = JSON.parse(process.argv[2])
const issuer = new URL(task.issuer)
const grant = 'urn:ietf:params:oauth:grant-type:token-exchange'
const asked = { subject_token: task.token, subject_token_type: 'urn:ietf:params:oauth:token-type:jwt' }
const wrong = { ...asked, subject_token: task.token + 'x' }

async function failure (attempt) {
  try {
    await attempt()
  } catch (error) {
    return error.error ?? error.cause?.error ?? String(error)
  }
  return null
}

async function withOauth4webapi () {
  const http = { [oauth.allowInsecureRequests]: true }
  const discovered = await oauth.discoveryRequest(issuer, { ...http, algorithm: 'oauth2' })
  const as = await oauth.processDiscoveryResponse(issuer, discovered)
  const client = { client_id: task.project }
  const exchange = async form => {
    const proof = oauth.ClientSecretBasic(task.key)
    const answer = await oauth.genericTokenEndpointRequest(as, client, proof, grant, new URLSearchParams(form), http)
    return await oauth.processGenericTokenEndpointResponse(as, client, answer)
  }
  return { said: await exchange(asked), refused: await failure(() => exchange(wrong)) }
}

async function withOpenidClient () {
  const options = { algorithm: 'oauth2', execute: [openid.allowInsecureRequests] }
  const proof = openid.ClientSecretPost(task.key)
  const config = await openid.discovery(issuer, task.project, {}, proof, options)
  const exchange = async form => await openid.genericGrantRequest(config, grant, form)
  return { said: await exchange(asked), refused: await failure(() => exchange(wrong)) }
}

console.log(JSON.stringify(await { oauth4webapi: withOauth4webapi, 'openid-client': withOpenidClient }[task.library]()))

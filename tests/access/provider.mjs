// An identity provider for tests: people sign in with any password; their groups are those of PEOPLE.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const { folder, port, client, people } = JSON.parse(process.argv[2])
const entry = createRequire(`${folder}/`).resolve('oidc-provider')
const { default: Provider } = await import(pathToFileURL(entry).href)
const issuer = `http://127.0.0.1:${port}`
const provider = new Provider(issuer, {
  clients: [{ ...client, grant_types: ['authorization_code'], response_types: ['code'] }],
  claims: { openid: ['sub'], profile: ['preferred_username'], groups: ['groups'] },
  scopes: ['openid', 'profile', 'groups'],
  pkce: { required: () => true },
  cookies: { keys: ['for tests only'] },
  async findAccount(_, id) {
    return { accountId: id, claims: async () => ({ sub: id, preferred_username: id, groups: people[id] ?? [] }) }
  },
})
provider.listen(port, '127.0.0.1', () => console.log('listening'))

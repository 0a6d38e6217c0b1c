// Drives the npm package http-cache-tests; cache_suite.py starts it.
//
//   node http_cache_tests.mjs FOLDER serve                the origin of the tests; says on which port it listens
//   node http_cache_tests.mjs FOLDER run URL PORT [RAW]   every test through the cache that answers for URL at
//                                                         127.0.0.1:PORT; with RAW, the file of an earlier run,
//                                                         those again that did not pass.  The last line is JSON.
//   node http_cache_tests.mjs FOLDER show URL PORT ID     one test alone, with every message
import fs from 'fs'
import http from 'http'
import https from 'https'
import { createRequire } from 'module'
import { pathToFileURL } from 'url'

const [folder, mode, base, port, more] = process.argv.slice(2)
const at = path => import(pathToFileURL(`${folder}/${path}`))

const WORDS = {
  '✅': 'passed', '⛔️': 'failed', '⚠️': 'missed', Y: 'yes', N: 'no', '🔹': 'setup', '⁉️': 'harness', '⚪️': 'dependency', '↻': 'retried', '-': 'untested'
}

async function serve () {
  // As it stands the package would listen on every address of the machine.
  const listen = http.Server.prototype.listen
  http.Server.prototype.listen = function (where) { return listen.call(this, where, '127.0.0.1') }
  Object.assign(process.env, { npm_config_protocol: 'http', npm_config_port: '0', npm_config_pidfile: '/dev/null' })
  await at('server/server.mjs')
}

async function run () {
  const fetch = createRequire(pathToFileURL(fs.realpathSync(folder) + '/'))('node-fetch')
  const { runTests, getResults } = await at('client/runner.mjs')
  const { determineTestResult } = await at('lib/display.mjs')
  const suites = [...(await at('tests/index.mjs')).default, (await at('tests/surrogate-control.mjs')).default]
  const earlier = mode === 'run' && more ? JSON.parse(fs.readFileSync(more)) : {}
  const chosen = test => mode === 'show' ? test.id === more : earlier[test.id] !== true
  const wanted = suites.map(suite => ({ ...suite, tests: suite.tests.filter(chosen) }))
  if (mode === 'show') wanted.forEach(suite => suite.tests.forEach(test => { test.dump = true }))
  // No name of the tests is in any DNS; NODE_EXTRA_CA_CERTS says whose certificate stands for it.
  const options = {
    keepAlive: true,
    lookup: (_, { all }, found) => all ? found(null, [{ address: '127.0.0.1', family: 4 }]) : found(null, '127.0.0.1', 4)
  }
  const url = new URL(base)
  url.port = port
  const agent = url.protocol === 'https:' ? new https.Agent(options) : new http.Agent(options)
  // All at once: most of them wait 3 s for something to become stale.
  await runTests(wanted, (target, init) => fetch(target, { ...init, agent }), false, url.origin, 1000)
  const raw = { ...earlier, ...getResults() }
  const verdicts = (mode === 'show' ? wanted : suites).flatMap(suite => suite.tests.map(test => ({
    id: test.id,
    suite: suite.id,
    kind: test.kind || 'required',
    name: test.name,
    browser: test.browser_only === true,
    verdict: WORDS[determineTestResult(suites, test.id, raw, mode !== 'show')[2]],
    said: Array.isArray(raw[test.id]) ? raw[test.id].join(': ') : ''
  })))
  await new Promise(resolve => process.stdout.write('\n' + JSON.stringify({ raw, verdicts }) + '\n', resolve))
  process.exit(0)
}

await (mode === 'serve' ? serve() : run())

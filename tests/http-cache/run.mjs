// Runs the public suite of HTTP cache tests against `farthing serve` and holds the result to the list of known failures.
//
//   node tests/http-cache/run.mjs --suite DIR --farthing PROGRAM [--out FILE] [--known FILE] [--only ID]
//
// The suite brings origin and client; this starts the origin and, in front of it, the proxy with one `shared = true` route in mode
// `respect`. All else is as by default, but for two things: there is no holdout, which would keep some answers from the cache, and no
// retry, because the suite takes a call that is repeated for a fault of the network and stops the test.
//
// It counts as the suite's own summary does: a test passes when it and all that it depends on pass. Kinds are `required`, `optimal` and
// `check`; the latter only notes a behaviour and is counted nowhere.
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import readline from 'node:readline'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

const PATIENCE_MS = 60_000

const { values: args } = parseArgs({
  options: {
    suite: { type: 'string' },
    farthing: { type: 'string' },
    out: { type: 'string' },
    known: { type: 'string' },
    only: { type: 'string' }
  }
})

const children = []

/** Starts a program and resolves with what `pattern` captures from its output. */
function start (program, argv, { pattern, ...options }) {
  const child = spawn(program, argv, { stdio: ['ignore', 'pipe', 'inherit'], ...options })
  children.push(child)
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`${program} did not say where it listens`)), PATIENCE_MS)
    child.on('error', reject)
    child.on('exit', code => reject(new Error(`${program} ended with ${code}`)))
    // Read to the end: a full pipe would stop the program.
    readline.createInterface({ input: child.stdout }).on('line', line => {
      const found = pattern.exec(line)
      if (found) {
        clearTimeout(late)
        resolve(found[1])
      }
    })
  })
}

/** Ends a program and waits until it has. */
function ended (child) {
  child.removeAllListeners('exit')
  return new Promise(resolve => {
    if (child.exitCode !== null || !child.kill()) return resolve()
    child.once('exit', resolve)
  })
}

function startOrigin (engine, dir) {
  const env = { ...process.env, npm_config_protocol: 'http', npm_config_port: '0', npm_config_pidfile: path.join(dir, 'origin.pid') }
  return start(process.execPath, [path.join(engine, 'server/server.mjs')], { cwd: dir, env, pattern: /^Listening on .*:(\d+)\/$/ })
}

function startProxy (program, dir, origin) {
  const config = path.join(dir, 'farthing.toml')
  fs.writeFileSync(config, `
[holdout]
share = 0

[providers.origin]
base_url = "http://127.0.0.1:${origin}"

[providers.origin.upstream]
attempts = 1
# The suite closes connections that were idle for some seconds, and sets up its tests by PUT through the proxy.
max_idle = 0

[routes.origin]
path_prefix = "/"
mode = "respect"
shared = true
`)
  const argv = ['serve', '--config', config, '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0']
  return start(program, argv, { cwd: dir, pattern: /answers at (http:\/\/[^ ;]+)/ })
}

const isPass = symbol => symbol === '✅' || symbol === 'Y'

/** Every test with its kind and whether it passed. */
function judge (suites, results, determine) {
  const ran = suites.flatMap(suite => suite.tests).filter(test => test.id in results)
  return ran.map(test => {
    const symbol = determine(suites, test.id, results)[2]
    const told = Array.isArray(results[test.id]) ? results[test.id].join(': ') : 'a test that it depends on fails'
    return { id: test.id, kind: test.kind ?? 'required', pass: isPass(symbol), told }
  })
}

function summary (tests) {
  const count = (kind, pass) => tests.filter(test => test.kind === kind && (!pass || test.pass)).length
  return {
    required_passed: count('required', true),
    required_total: count('required', false),
    optimal_passed: count('optimal', true),
    optimal_total: count('optimal', false)
  }
}

/** What the run and the list of known failures do not agree about. */
function disagreements (tests, known) {
  const counted = tests.filter(test => test.kind !== 'check')
  const fails = counted.filter(test => !test.pass && !(test.id in known))
  const passes = counted.filter(test => test.pass && test.id in known)
  const gone = Object.keys(known).filter(id => !counted.some(test => test.id === id))
  const bare = Object.keys(known).filter(id => typeof known[id] !== 'string' || known[id].trim() === '')
  return [
    ...fails.map(test => `${test.id} (${test.kind}) fails and is not listed: ${test.told}`),
    ...passes.map(test => `${test.id} passes but is listed as a known failure: take it out`),
    ...gone.map(id => `${id} is listed but no test of the suite`),
    ...bare.map(id => `${id} is listed without a reason`)
  ]
}

async function main () {
  const suite = path.resolve(args.suite)
  const engine = fs.existsSync(path.join(suite, 'test-engine')) ? path.join(suite, 'test-engine') : suite
  const load = file => import(pathToFileURL(file).href)
  const { runTests, getResults } = await load(path.join(engine, 'client/runner.mjs'))
  const judges = ['lib/results.mjs', 'lib/display.mjs'].map(file => path.join(engine, file)).find(file => fs.existsSync(file))
  const { determineTestResult } = await load(judges)
  const { default: fetch } = await load(path.join(suite, '../node-fetch/lib/index.mjs'))
  const { default: all } = await load(path.join(suite, 'tests/index.mjs'))
  const wanted = args.only?.split(',')
  const pick = test => !wanted || wanted.includes(test.id)
  if (wanted) all.flatMap(s => s.tests).filter(pick).forEach(test => { test.dump = true })
  const suites = wanted ? all.map(s => ({ ...s, tests: s.tests.filter(pick) })) : all

  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'farthing-http-cache-'))
  try {
    const origin = await startOrigin(engine, dir)
    const base = await startProxy(path.resolve(args.farthing), dir, origin)
    await runTests(suites, fetch, false, base.replace(/\/$/, ''))
  } finally {
    await Promise.all(children.map(ended))
    fs.rmSync(dir, { recursive: true, force: true })
  }
  const tests = judge(suites, getResults(), wanted ? (s, id, r) => determineTestResult(all, id, r, false) : determineTestResult)
  const figures = summary(tests)
  console.log(JSON.stringify(figures))
  if (args.out) {
    fs.mkdirSync(path.dirname(args.out), { recursive: true })
    const failed = tests.filter(test => !test.pass && test.kind !== 'check').map(({ id, kind, told }) => ({ id, kind, told }))
    fs.writeFileSync(args.out, JSON.stringify({ ...figures, failed }, null, 2) + '\n')
  }
  if (wanted) return 0
  const known = args.known ? JSON.parse(fs.readFileSync(args.known, 'utf8')).failures : {}
  const wrong = disagreements(tests, known)
  wrong.forEach(line => console.error(line))
  return wrong.length === 0 ? 0 : 1
}

main().then(code => process.exit(code), error => {
  console.error(error)
  process.exit(1)
})

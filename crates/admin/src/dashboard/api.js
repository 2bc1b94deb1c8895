// Questions to the API. The token stays in this tab.

const KEY = 'farthing-admin-token';
const DEADLINE_MS = 15000;

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const keep = (token) => sessionStorage.setItem(KEY, token);

// What is at `path`, a document or a text; `null` where there is nothing.
export async function ask(path) {
  const token = sessionStorage.getItem(KEY);
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers, signal: AbortSignal.timeout(DEADLINE_MS), cache: 'no-store' });
  if (answer.ok) return answer.headers.get('content-type').startsWith('application/json') ? answer.json() : answer.text();
  const problem = await answer.json().catch(() => ({}));
  if (answer.status === 404) return null;
  throw new Refused(answer.status, problem.detail ?? `${path} was answered with ${answer.status}`);
}

// The documents of a view, by name: `paths` names where each is. Why one cannot be had for now, as without a log, is in `lacking`.
export async function askAll(paths) {
  const lacking = {};
  const or = (name) => (error) => {
    if (error.status !== 503) throw error;
    lacking[name] = error.message;
    return null;
  };
  const found = await Promise.all(Object.entries(paths).map(async ([name, path]) => [name, await ask(path).catch(or(name))]));
  return { ...Object.fromEntries(found), lacking };
}

// The sum over all labels of one metric of `/metrics`.
export function metric(text, name) {
  const samples = text.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return samples.reduce((sum, line) => sum + Number(line.replace(/^[^{ ]*(\{.*\})? /, '').split(' ')[0]), 0);
}

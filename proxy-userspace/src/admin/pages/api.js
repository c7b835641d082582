// The admin API, asked as by anybody else.

const TOKEN = "weir-token";

/** More than the daemon takes for any answer. */
const LIMIT_MILLISECONDS = 10_000;

/** No answer, or one that says what is wrong. */
export class Refusal extends Error {
  constructor(status, error, remedy) {
    super(error);
    this.status = status;
    this.remedy = remedy;
  }

  /** In one line. */
  get text() {
    return this.remedy ? `${this.message}; ${this.remedy}` : this.message;
  }
}

/** Does something with the browser's storage, unless it is forbidden there. */
export function store(work) {
  try {
    return work();
  } catch {
    return null;
  }
}

let token = store(() => sessionStorage.getItem(TOKEN));

/** Kept as long as the tab is open; none takes it away. */
export function setToken(given) {
  token = given;
  store(() => (given ? sessionStorage.setItem(TOKEN, given) : sessionStorage.removeItem(TOKEN)));
}

export function hasToken() {
  return token != null;
}

/** The answer's JSON. */
export async function ask(path, method = "GET", body) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(LIMIT_MILLISECONDS),
    });
  } catch (error) {
    throw new Refusal(0, error.name === "TimeoutError" ? "no answer in time" : "no connection", "");
  }
  const answer = await response.json().catch(() => {
    throw new Refusal(response.status, `an answer of status ${response.status} that is cut short`, "");
  });
  if (!response.ok) throw new Refusal(response.status, answer.error, answer.remedy);
  return answer;
}

export function clusterPath(cluster) {
  return `/clusters/${encodeURIComponent(cluster)}`;
}

export function endpointPath(cluster, address) {
  return `${clusterPath(cluster)}/endpoints/${encodeURIComponent(address)}`;
}

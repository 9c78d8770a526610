// Requests to the sidecar, with the token where it needs one.

class RequestError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

let token = storedToken();

/** The token of this tab, where the browser lets a page keep one. */
function storedToken() {
  try {
    return sessionStorage.getItem("admin_token") ?? "";
  } catch {
    return "";
  }
}

/** Show the token's button with these words, or hide it. */
function showTokenButton(words) {
  $("key").hidden = !words;
  put($("key"), words || "Give the token");
}

function storeToken(given) {
  token = given;
  showTokenButton(given ? "Forget the token" : "");
  $("open").hidden = given !== ""; // a link cannot send the token
  try {
    if (given) sessionStorage.setItem("admin_token", given);
    else sessionStorage.removeItem("admin_token");
  } catch {
    // It is kept in memory, until the page is loaded again.
  }
}

/** One request to the sidecar. Raises RequestError with the detail of an error response, or what the browser raises. */
async function request(method, path, { body, signal } = {}) {
  const headers = {};
  if (method !== "GET") headers["X-Shadowproxy-Admin"] = "1";
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  const options = { method, headers, signal, cache: "no-store", credentials: "omit", redirect: "error" };
  const response = await fetch(path, body ? { ...options, body: JSON.stringify(body) } : options);
  if (response.ok) return response;
  const failure = await response.json().catch(() => ({}));
  throw new RequestError(response.status, failure.error?.detail ?? `the sidecar answered ${response.status}`);
}

/** Whether a token would help: it is missing, wrong, or needed as the sidecar does not know the name it was opened by. */
const needsToken = (error) => error.status === 401 || error.status === 421;

/** Like `request`; where a token is needed, ask the operator for one and try again. */
async function requestWithToken(...parameters) {
  for (;;) {
    try {
      return await request(...parameters);
    } catch (error) {
      if (!needsToken(error) || !(await askForToken(error.message))) throw error;
    }
  }
}

let asking = null;

/** Ask the operator for the token, once for all requests that need it. Resolves to whether it was given. */
function askForToken(why) {
  asking ??= new Promise((resolve) => {
    put($("why"), why);
    $("token").value = "";
    $("ask").returnValue = "";
    $("ask").addEventListener(
      "close",
      () => {
        const use = $("ask").returnValue === "give" && $("token").value !== "";
        if (use) storeToken($("token").value);
        $("token").value = "";
        asking = null;
        resolve(use);
      },
      { once: true },
    );
    $("ask").showModal();
  });
  return asking;
}

function showMessage(text, failed = false) {
  put($("message"), text);
  name($("message"), failed ? "line fail" : "line");
}

/** Do what the operator asked for, with its button off meanwhile, and show the result. */
async function act(button, done, method, path, body) {
  button.disabled = true;
  try {
    await requestWithToken(method, path, { body });
  } catch (error) {
    return showMessage(`Not done: ${error.message}`, true);
  } finally {
    button.disabled = false;
  }
  showMessage(done);
  show(await (await request("GET", "overview")).json()); // or it would show only with the next event, a second later
}

// The page on which somebody lets the comune's alerts into their browser, or turns them away again.
"use strict";

const { comune, key, policy } = document.body.dataset;
const AT = `/v1/authorities/${encodeURIComponent(comune)}/push-subscriptions`;
const form = document.getElementById("iscrizione");
const enter = document.getElementById("attiva");
const leave = document.getElementById("disattiva");
const said = document.getElementById("stato");

form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(subscribe);
});
leave.addEventListener("click", () => attempt(unsubscribe));
attempt(look);

async function attempt(what) {
  enter.disabled = leave.disabled = true;
  try {
    await what();
  } catch (trouble) {
    say(trouble instanceof Told ? trouble.message : "Non è andata a buon fine. Riprova fra qualche minuto.", true);
  }
  enter.disabled = leave.disabled = false;
}

class Told extends Error {}

function say(words, isTrouble = false) {
  said.textContent = words;
  said.classList.toggle("errore", isTrouble);
}

function show(isIn) {
  leave.hidden = !isIn;
  enter.textContent = isIn ? "Salva la zona" : "Attiva gli avvisi";
}

async function look() {
  if (!("serviceWorker" in navigator) || !("PushManager" in window) || !("Notification" in window)) {
    form.hidden = true;
    throw new Told(
      /iP(hone|ad|od)/.test(navigator.userAgent)
        ? "Su iPhone e iPad: tocca Condividi, poi «Aggiungi alla schermata Home», e apri questa pagina da lì."
        : "Questo browser non riceve avvisi. Prova con Chrome, Firefox, Edge o Safari aggiornati.",
    );
  }
  const known = await registration();
  const standing = known && (await known.pushManager.getSubscription());
  show(Boolean(standing));
  say(standing ? "Gli avvisi sono attivi in questo browser." : "Gli avvisi non sono attivi in questo browser.");
}

function registration() {
  return navigator.serviceWorker.getRegistration(`/v1/push/${encodeURIComponent(comune)}/`);
}

async function subscribe() {
  if ((await Notification.requestPermission()) !== "granted") {
    throw new Told("Il browser non ha il permesso di mostrare avvisi: consentilo nelle impostazioni di questo sito, poi riprova.");
  }
  // A scope for each comune: a browser has one subscription for each, under its own key.
  const worker = await navigator.serviceWorker.register("/v1/push/service-worker.js", {
    scope: `/v1/push/${encodeURIComponent(comune)}/`,
  });
  await active(worker);
  const standing = await worker.pushManager.getSubscription();
  const subscription = standing || (await worker.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key }));
  const body = { subscription: subscription.toJSON(), policy };
  const zone = document.getElementById("zona").value;
  if (zone) {
    body.places = [{ label: "casa", area: zone }];
  }
  const answer = await ask("POST", body);
  if (answer.status === 429) {
    throw new Told("Troppe richieste in poco tempo. Riprova fra un minuto.");
  }
  if (answer.status === 409) {
    throw new Told("L'informativa è cambiata: ricarica la pagina e leggila prima di attivare gli avvisi.");
  }
  if (!answer.ok) {
    throw new Error(`answered ${answer.status}`);
  }
  show(true);
  say("Fatto: riceverai gli avvisi in questo browser.");
}

async function unsubscribe() {
  const known = await registration();
  const standing = known && (await known.pushManager.getSubscription());
  if (standing) {
    // The comune first: a browser that has forgotten could not say any more what is to be erased.
    const answer = await ask("DELETE", { endpoint: standing.endpoint });
    if (!answer.ok) {
      throw new Error(`answered ${answer.status}`);
    }
    await standing.unsubscribe();
  }
  show(false);
  say("Gli avvisi sono disattivati e il tuo contatto non è più in elenco.");
}

function ask(method, body) {
  return fetch(AT, {
    method,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    credentials: "omit",
  });
}

// The page is outside of the scope, where navigator.serviceWorker.ready would wait for ever.
function active(worker) {
  const coming = worker.installing || worker.waiting;
  if (worker.active || !coming) {
    return Promise.resolve();
  }
  return new Promise((resolve) => {
    coming.addEventListener("statechange", () => coming.state === "activated" && resolve());
  });
}

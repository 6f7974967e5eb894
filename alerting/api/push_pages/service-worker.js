// Shows what the comune says while its page is closed, tells the comune that it was shown, and opens the whole text.
"use strict";

const ACKNOWLEDGE = "/v1/push/ack";
const AGAIN_AFTER = [2000, 10000]; // ms: an alert is followed by thousands of these

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("push", (event) => event.waitUntil(show(read(event))));

self.addEventListener("notificationclick", (event) => {
  const { url, reference } = event.notification.data || {};
  event.notification.close();
  event.waitUntil(Promise.all([open(url), acknowledge(reference, "read")]));
});

self.addEventListener("pushsubscriptionchange", (event) => event.waitUntil(subscribeAnew(event)));

function read(event) {
  try {
    return event.data.json();
  } catch {
    // A browser wants something shown for each push, and whoever sees it must know where to look.
    return { title: "Avviso del Comune", body: "Apri per leggerlo.", tag: "", reference: "" };
  }
}

async function show(said) {
  const options = {
    body: said.body || "",
    lang: said.lang || "it",
    // What ends an alert stands where the alert stood.
    tag: said.tag || "",
    requireInteraction: Boolean(said.urgent) && stillHolds(said),
    data: { url: said.url || "", reference: said.reference || "", about: about(said) },
  };
  if (options.tag) {
    // The same text once more, because we did not know whether it had arrived, wakes nobody.
    const standing = await self.registration.getNotifications({ tag: options.tag });
    options.renotify = !standing.some((one) => one.data && one.data.about && one.data.about === about(said));
  }
  if (said.urgent) {
    options.vibrate = [300, 100, 300, 100, 600];
  }
  await self.registration.showNotification(said.title || "Avviso del Comune", options);
  await acknowledge(said.reference, "delivered");
}

// A phone's clock may be wrong: what seems to have ended is shown all the same, and need not be put away by hand.
function stillHolds(said) {
  return !said.expires || Date.now() < said.expires * 1000;
}

// Without the number of the attempt and the proof.
function about(said) {
  return String(said.reference || "").split(".").slice(0, 2).join(".");
}

async function acknowledge(reference, event) {
  if (!reference) {
    return;
  }
  for (const wait of [...AGAIN_AFTER, null]) {
    try {
      const answer = await fetch(ACKNOWLEDGE, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ reference, event }),
        credentials: "omit",
        keepalive: true,
      });
      if (answer.status < 500 && answer.status !== 429) {
        return;
      }
    } catch {
      // No network: once more, and then it is left.
    }
    if (wait !== null) {
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}

async function open(url) {
  const page = new URL(url || `/v1/authorities/${comune()}/web-push/iscriviti`, self.location.origin).href;
  try {
    const windows = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
    const there = windows.find((one) => one.url === page);
    await (there ? there.focus() : self.clients.openWindow(page));
  } catch {
    // A browser opens windows only for whoever has just pressed something; that it was read is told all the same.
  }
}

// A worker runs for one comune: its scope is /v1/push/<code>/.
function comune() {
  return encodeURIComponent(decodeURIComponent(new URL(self.registration.scope).pathname.split("/").at(-2)));
}

// The browser has given up its subscription for another: the comune is told, with the old one, so that no place is lost.
async function subscribeAnew(event) {
  const asked = await fetch(`/v1/authorities/${comune()}/web-push`, { credentials: "omit" });
  const { public_key: key, policy } = await asked.json();
  const fresh = event.newSubscription || (await self.registration.pushManager.subscribe({
    userVisibleOnly: true,
    applicationServerKey: key,
  }));
  const body = { subscription: fresh.toJSON(), policy: policy.version };
  if (event.oldSubscription) {
    body.replaces = event.oldSubscription.endpoint;
  }
  await fetch(`/v1/authorities/${comune()}/push-subscriptions`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    credentials: "omit",
  });
}

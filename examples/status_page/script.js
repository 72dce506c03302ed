"use strict";

const byId = (id) => document.getElementById(id);

function element(name, text) {
    const made = document.createElement(name);
    made.textContent = text;
    return made;
}

function shape(name, attributes, text = "") {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
}

const sum = (numbers) => numbers.reduce((all, n) => all + n, 0);

/** A bar for each span of time: resumed handshakes below, full ones above. */
function draw({ seconds, counts }) {
    const [left, top, bottom, width] = [36, 10, 120, 9];
    const most = Math.max(4, ...counts.map(sum));
    const y = (n) => bottom - (bottom - top) * n / most;
    const shapes = [];
    for (const n of [0, most]) {
        shapes.push(shape("line", { x1: left, x2: 600, y1: y(n), y2: y(n) }));
        shapes.push(shape("text", { x: left - 6, y: y(n) + 4, "text-anchor": "end" }, n));
    }
    counts.forEach(([resumed, full], i) => {
        const bar = (kind, from, n) => n && shapes.push(shape("rect", {
            class: kind, x: left + 4 + i * (width + .35), width: width - 2, y: y(from + n), height: y(from) - y(from + n),
        }));
        bar("resumed", 0, resumed);
        bar("full", resumed, full);
    });
    const minutes = Math.round(seconds * counts.length / 60);
    shapes.push(shape("text", { x: left, y: bottom + 16 }, `${minutes} minutes ago`));
    shapes.push(shape("text", { x: 600, y: bottom + 16, "text-anchor": "end" }, "now"));
    byId("chart").replaceChildren(...shapes);
    const [resumed, full] = [0, 1].map((kind) => sum(counts.map((count) => count[kind])));
    byId("caption").textContent =
        `Handshakes of the last ${minutes} minutes, ${seconds} seconds a bar: ${resumed} resumed, ${full} full.`;
}

function show({ connection, outcome, history, keys, key_error, stats }) {
    const [resumed, full] = [stats.resumed, stats.full].map((kinds) => sum(Object.values(kinds)));
    byId("resumed").textContent = resumed;
    byId("full").textContent = full;
    byId("share").textContent = resumed + full ? `${Math.round(100 * resumed / (resumed + full))} %` : "–";
    draw(history);

    const rows = Object.entries({ resumed: stats.resumed, full: stats.full }).flatMap(([kind, causes]) =>
        Object.entries(causes).filter(([, n]) => n > 0).map(([cause, n]) => [kind, cause, n]));
    byId("causes").replaceChildren(...rows.map((row) => {
        const tr = document.createElement("tr");
        tr.append(...row.map((text) => element("td", text)));
        return tr;
    }));

    const { tickets, store } = stats;
    const facts = [];
    if (keys) {
        facts.push(
            ["Key epoch", `${keys.epoch}, of ${keys.seconds} s`],
            ["Active key", `has been sealing for ${keys.age} s, the next takes over in ${keys.next} s`],
            ["Tickets", `${tickets.sealed} sealed, ${tickets.opened} opened, of them ${tickets.opened_inactive} under the key of another epoch`],
            ["Not opened", `${tickets.unknown_key} under an unknown key, ${tickets.malformed} damaged`]);
    }
    if (key_error) facts.push(["Key error", key_error]);
    if (store.usage) {
        facts.push(
            ["Store", `${store.usage.entries} sessions, ${store.usage.bytes} bytes`],
            ["Lookups", `${store.hits} hits, ${store.misses} misses, ${store.expired} expired`],
            ["Failures", `${store.errors} errors, ${store.usage.lost} writes lost, ${store.usage.refused} calls refused, ${store.late} lookups late`]);
    }
    const early = Object.entries(stats.early_data).filter(([, n]) => n > 0).map(([what, n]) => `${n} ${what}`);
    if (early.length) facts.push(["Early data", early.join(", ")]);
    if (!facts.length) facts.push(["None", "in this mode"]);
    byId("facts").replaceChildren(...facts.flatMap(([term, text]) => [element("dt", term), element("dd", text)]));

    byId("polling").textContent =
        `The numbers are live. They come over a connection of their own, which is kept and counted once (${connection}: ${outcome ?? "early"}).`;
}

async function poll() {
    try {
        // Without credentials a browser takes another connection than for the page.
        const answer = await fetch("status.json", { credentials: "omit" });
        show(await answer.json());
    } catch (error) {
        byId("polling").textContent = `The numbers are not live: ${error.message}`;
    }
    setTimeout(poll, 2000);
}

poll();

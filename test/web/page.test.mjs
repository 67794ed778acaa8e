// Drives the page of a real run in headless Chromium: numbers, curves (pixels), slider,
// live updates, a worker that is killed, actions, accessibility, several runs. Uses
// node:test; hack/e2e-web.sh sets AGRDIST (the binary) and, to renew the screenshots of
// the documentation, WEB_IMAGES (a folder).
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';

const binary = process.env.AGRDIST;
const images = process.env.WEB_IMAGES;
const home = fs.mkdtempSync(path.join(os.tmpdir(), 'agrdist-web-'));
const axe = fs.readFileSync(new URL('./node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
const patience = { timeout: 60_000 };

const settings = (more) => ['run', '--set', 'train.global_batch=16', '--set', 'train.chunk=4', '--set', 'sample.count=16',
  '--set', 'sample.steps=4', '--set', 'log.every=1', '--set', 'log.measure_every=1', ...more.flatMap((s) => ['--set', s])];

// launch starts a run and waits for the address of its page.
async function launch(dir, more) {
  const child = spawn(binary, [...settings(more), '--out', dir], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.text = '';
  child.stderr.on('data', (b) => { child.text += b; });
  child.stdout.on('data', (b) => { child.text += b; });
  child.ended = new Promise((done) => child.on('exit', (code) => done(code)));
  const link = await until(() => child.text.match(/dashboard (http\S+)/)?.[1], 'the address of the page');
  return { child, link };
}

async function until(f, what) {
  for (const start = Date.now(); Date.now() - start < patience.timeout;) {
    const v = await f();
    if (v) return v;
    await new Promise((r) => setTimeout(r, 100));
  }
  throw new Error('waited in vain for ' + what);
}

let browser, run, page;
const errors = [];
const foreign = [];

async function open(link, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const p = await context.newPage();
  p.on('console', (m) => { if (m.type() === 'error') errors.push(m.text()); });
  p.on('pageerror', (e) => errors.push(e.message));
  p.on('request', (r) => { if (!r.url().startsWith(new URL(link).origin)) foreign.push(r.url()); });
  await p.goto(link);
  return p;
}

const charted = (p) => p.waitForFunction(() => Number(document.body.dataset.charts) > 20, null, patience);

// inked counts the pixels of a chart that are not background.
const inked = (p, id) => p.evaluate((id) => {
  const c = document.querySelector('#' + id + ' canvas');
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let n = 0;
  for (let i = 3; i < d.length; i += 4) if (d[i] > 40) n++;
  return n;
}, id);

before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  run = await launch(path.join(home, 'runs', 'live'), ['train.steps=100000', 'sample.every=40', 'checkpoint.every=50']);
  page = await open(run.link);
});

after(async () => {
  await browser?.close();
  run?.child.kill('SIGKILL');
  await run?.child.ended;
  fs.rmSync(home, { recursive: true, force: true });
});

test('the token leaves the address', () => assert.ok(!page.url().includes('token')));

test('numbers move while the run trains', async () => {
  await charted(page);
  const first = await page.textContent('#n-step');
  await page.waitForFunction((t) => document.getElementById('n-step').textContent !== t, first, patience);
  assert.equal(await page.textContent('#health'), 'healthy');
  assert.match(await page.textContent('#members'), /forward|backward|all_reduce|barrier|update|data|sample|checkpoint/);
});

test('curves are drawn', async () => {
  for (const id of ['c-loss', 'c-third', 'c-norm', 'c-update', 'c-ema', 'c-agr', 'c-times', 'c-speed', 'c-lr']) assert.ok(await inked(page, id) > 500, id);
  const before = await page.evaluate(() => Number(document.body.dataset.charts));
  await page.waitForFunction((n) => Number(document.body.dataset.charts) > n, before, patience);
  await page.uncheck('#log');
  await page.selectOption('#axis', 'time');
  assert.ok(await inked(page, 'c-loss') > 500);
  await page.check('#log');
  await page.selectOption('#axis', 'step');
});

test('the slider shows grids of other steps', async () => {
  await page.waitForFunction(() => Number(document.getElementById('slider').max) >= 1, null, patience);
  const loaded = () => page.waitForFunction(() => { const g = document.getElementById('grid'); return g.complete && g.naturalWidth > 0; }, null, patience);
  await page.focus('#slider');
  await page.keyboard.press('Home');
  await loaded();
  assert.match(await page.getAttribute('#grid', 'alt'), /step 40$/);
  await page.keyboard.press('ArrowRight');
  await loaded();
  assert.match(await page.getAttribute('#grid', 'alt'), /step 80$/);
});

test('settings and log are there, and the log can be filtered', async () => {
  assert.match(await page.textContent('#changed'), /train\.global_batch/);
  await page.waitForFunction(() => document.getElementById('logtext').textContent.includes('generation'), null, patience);
  await page.fill('#filter', 'no such words');
  await page.waitForFunction(() => document.getElementById('logtext').textContent === '', null, patience);
  await page.fill('#filter', '');
});

test('a worker that is killed shows, and its replacement', async () => {
  const generation = Number(await page.textContent('#n-generation'));
  const pid = Number(await page.textContent('#members tr:last-child td:nth-child(3)'));
  process.kill(pid, 'SIGKILL');
  await page.waitForFunction((g) => Number(document.getElementById('n-generation').textContent) > g, generation, patience);
  await page.waitForFunction(() => document.querySelectorAll('#members tr').length === 2 && document.getElementById('health').textContent === 'healthy', null, patience);
});

test('no serious accessibility finding, light and dark', async () => {
  for (const colorScheme of ['light', 'dark']) {
    const p = await open(run.link, { colorScheme, bypassCSP: true });
    await charted(p);
    await p.evaluate(axe);
    const found = await p.evaluate(() => window.axe.run());
    const serious = found.violations.filter((v) => v.impact === 'serious' || v.impact === 'critical');
    assert.deepEqual(serious.map((v) => v.id + ': ' + v.nodes.map((n) => n.target).join(' ')), []);
    await p.context().close();
  }
});

test('fits every width', async () => {
  for (const width of [360, 768, 2560]) {
    const p = await open(run.link, { viewport: { width, height: 900 } });
    await charted(p);
    assert.ok(await p.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'scrolls sideways at ' + width);
    await p.context().close();
  }
});

test('numbers are there without JavaScript', async () => {
  const p = await open(run.link, { javaScriptEnabled: false });
  assert.match(await p.textContent('#n-step'), /^\d+ \/ 100000$/);
  assert.equal(await p.isVisible('#h-curves'), false);
  await p.context().close();
});

test('buttons write a checkpoint, and stop the run', async () => {
  const before = await page.textContent('#n-checkpoint');
  await page.click('#checkpoint');
  await page.waitForFunction(() => document.getElementById('toast').textContent.includes('checkpoint'), null, patience);
  await page.waitForFunction((t) => document.getElementById('n-checkpoint').textContent.split(',')[0] !== t.split(',')[0], before, patience);
  if (images) {
    await page.setViewportSize({ width: 1280, height: 1000 });
    await page.screenshot({ path: path.join(images, 'dashboard-light.png') });
    for (const [name, options] of [['dark', { colorScheme: 'dark', viewport: { width: 1280, height: 1000 } }], ['phone', { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2 }]]) {
      const p = await open(run.link, options);
      await charted(p);
      await p.screenshot({ path: path.join(images, `dashboard-${name}.png`) });
      await p.context().close();
    }
  }
  page.on('dialog', (d) => d.accept());
  await page.click('#stop');
  assert.equal(await run.child.ended, 143, run.child.text);
});

test('several runs: overlaid curves and the settings that differ', async () => {
  for (const lr of ['1e-3', '4e-3']) {
    const r = await launch(path.join(home, 'runs', 'lr' + lr), ['train.steps=60', 'lr.base=' + lr]);
    assert.equal(await r.child.ended, 0, r.child.text);
  }
  const child = spawn(binary, ['dashboard', path.join(home, 'runs')], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const line = await new Promise((done) => child.stdout.once('data', (b) => done(String(b))));
    const p = await open(line.match(/http\S+/)[0]);
    await charted(p);
    const one = await inked(p, 'c-loss');
    await p.check('.overlay[value="lr1e-3"]');
    await p.check('.overlay[value="live"]');
    await p.waitForFunction(() => document.querySelector('#differ')?.textContent.includes('lr.base'), null, patience);
    assert.ok(await inked(p, 'c-loss') > one, 'no curve was added');
    if (images) await p.screenshot({ path: path.join(images, 'dashboard-runs.png'), fullPage: false });
    await p.context().close();
  } finally {
    child.kill('SIGTERM');
  }
});

test('no console error and no request to elsewhere', () => {
  // A page that was open when the run ended notes that its stream is gone.
  assert.deepEqual(errors.filter((e) => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|Failed to load resource/.test(e)), []);
  assert.deepEqual(foreign, []);
});

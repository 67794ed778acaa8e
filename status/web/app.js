// The page of a run: numbers by server-sent events, charts by uPlot, the rest on
// demand. Without this script the page still shows the numbers it was served with.
'use strict';
(() => {
  const run = document.body.dataset.run;
  const $ = (id) => document.getElementById(id);
  const api = (path, name = run) => '/api/runs/' + encodeURIComponent(name) + '/' + path;
  const get = async (url) => {
    const r = await fetch(url);
    if (!r.ok) throw new Error(await r.text());
    return r.json();
  };
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const span = (s) => {
    if (s < 10) return s.toFixed(1) + 's';
    s = Math.round(s);
    if (s < 60) return s + 's';
    if (s < 3600) return Math.floor(s / 60) + 'm' + (s % 60) + 's';
    return Math.floor(s / 3600) + 'h' + Math.floor(s % 3600 / 60) + 'm';
  };
  const ms = (x) => x ? x.toFixed(0) + ' ms' : '–';
  const text = (id, value) => { const e = $(id); if (e && e.textContent !== value) e.textContent = value; };

  // --- numbers ---------------------------------------------------------------
  const waits = new Set(['all_reduce', 'barrier']);
  function numbers(v) {
    const h = $('health');
    h.className = 'health ' + v.health;
    text('health', v.health);
    $('detail').hidden = !v.detail;
    text('detail', v.detail || '');
    text('n-step', v.step + (v.total_steps ? ' / ' + v.total_steps : ''));
    text('n-loss', v.loss ? v.loss.toFixed(4) : '–');
    text('n-speed', v.images_per_s ? v.images_per_s.toFixed(0) : '–');
    text('n-eta', v.eta_s ? span(v.eta_s) : '–');
    text('n-generation', v.generation ? String(v.generation) : '–');
    text('n-workers', v.workers ? String(v.workers.length) : '–');
    text('n-restarts', v.live ? (v.restarts_left < 0 ? 'no limit' : String(v.restarts_left)) : '–');
    text('n-checkpoint', v.checkpoint_step >= 0 ? 'step ' + v.checkpoint_step + ', ' + span(v.checkpoint_age_s || 0) + ' ago' : 'none');
    const percent = v.total_steps ? 100 * Math.max(0, v.step) / v.total_steps : 0;
    $('bar').setAttribute('aria-valuenow', percent.toFixed(0));
    $('bar').firstElementChild.style.width = percent + '%';
    $('digest').hidden = !v.model_digest;
    $('digest').querySelector('code').textContent = v.model_digest || '';
    members(v.workers || []);
  }

  function members(workers) {
    $('s-members').hidden = workers.length === 0;
    const body = $('members');
    while (body.rows.length > workers.length) body.deleteRow(-1);
    workers.forEach((w, i) => {
      const row = body.rows[i] || body.insertRow();
      const cells = [w.rank < 0 ? 'waits' : w.spare ? 'spare' : w.rank, w.name, w.pid || '', w.step, null, w.bucket, ms(w.compute_ms), ms(w.wait_ms), w.ratio ? w.ratio.toFixed(2) : '–',
        w.usage.rss_bytes ? (w.usage.rss_bytes / 1e6).toFixed(0) + ' MB' : '–', span(w.progress_s), span(w.seen_s), w.slow || ''];
      cells.forEach((c, k) => {
        const cell = row.cells[k] || row.insertCell();
        if (c !== null) { if (cell.textContent !== String(c)) cell.textContent = c; return; }
        let p = cell.firstElementChild;
        if (!p) { cell.textContent = ''; p = cell.appendChild(document.createElement('span')); }
        p.className = 'phase ' + (waits.has(w.phase) ? 'wait' : w.rank >= 0 ? 'work' : '');
        p.textContent = w.phase || '–';
      });
      row.className = !w.connected || w.progress_s > 10 || w.ratio > 1.5 ? 'slow' : '';
    });
  }

  // --- charts ----------------------------------------------------------------
  const others = new Map(); // name -> series of an overlaid run
  const palette = ['--c2', '--c3', '--c4', '--dim'];
  let series = null;
  let plots = [];
  const charts = [
    { id: 'c-loss', lines: [['loss', 'raw', '--faint', 1], ['loss_smooth', 'smoothed', '--c1', 2], ['heldout_loss', 'held-out', '--c3', 2]], overlay: 'loss_smooth', log: true },
    { id: 'c-third', lines: [['loss_t_low', 'low t', '--c1', 1.5], ['loss_t_mid', 'middle t', '--c2', 1.5], ['loss_t_high', 'high t', '--c3', 1.5]], log: true },
    { id: 'c-norm', lines: [['grad_norm', 'gradient norm', '--c1', 1.5]], overlay: 'grad_norm', log: true },
    { id: 'c-update', lines: [['update_norm', 'update norm', '--c2', 1.5]], overlay: 'update_norm', log: true },
    { id: 'c-ema', lines: [['ema_distance', 'distance', '--c3', 1.5]], overlay: 'ema_distance' },
    { id: 'c-agr', lines: [['agr_coefficient', 'coefficient', '--c4', 1.5]], overlay: 'agr_coefficient' },
    { id: 'c-times', lines: [['compute_ms_max', 'compute', '--c1', 1.5], ['data_ms_max', 'of that data', '--c2', 1.5], ['wait_ms_max', 'wait', '--c3', 1.5]] },
    { id: 'c-speed', lines: [['images_per_s', 'images/s', '--c3', 1.5]], overlay: 'images_per_s' },
    { id: 'c-lr', lines: [['lr', 'learning rate', '--c4', 1.5]], overlay: 'lr' },
  ];
  const colour = { start: '--over', generation: '--c2', skip: '--bad', checkpoint: '--ok', sample: '--c3', stop: '--wait', finish: '--over' };

  // marks draws what happened as short lines on the axis.
  const marks = {
    hooks: {
      draw: (u) => {
        if (!$('marks').checked || !series) return;
        const { ctx } = u, { left, top, width, height } = u.bbox;
        const byTime = $('axis').value === 'time';
        for (const m of series.marks || []) {
          const x = u.valToPos(byTime ? m.time : m.step, 'x', true);
          if (x < left || x > left + width) continue;
          const strong = m.kind === 'generation' || m.kind === 'skip' || m.kind === 'stop';
          ctx.strokeStyle = style(colour[m.kind] || '--dim');
          ctx.lineWidth = 1.5 * devicePixelRatio;
          ctx.beginPath();
          ctx.moveTo(x, top + height);
          ctx.lineTo(x, top + height - (strong ? height : 12 * devicePixelRatio));
          if (strong) ctx.setLineDash([4, 4]);
          ctx.stroke();
          ctx.setLineDash([]);
        }
      },
    },
  };

  const column = (s, key) => s[key] || (s.step || []).map(() => null);

  function data(chart) {
    const axis = $('axis').value;
    const own = [series[axis] || [], ...chart.lines.map(([key]) => column(series, key))];
    if (others.size === 0 || !chart.overlay) return own;
    const tables = [own];
    for (const s of others.values()) tables.push([s[axis] || [], column(s, chart.overlay)]);
    return uPlot.join(tables);
  }

  function build() {
    plots.forEach((p) => p.destroy());
    const axis = { stroke: style('--dim'), grid: { stroke: style('--line'), width: 1 }, ticks: { stroke: style('--line') }, font: '12px system-ui' };
    plots = charts.map((chart) => {
      const lines = chart.lines.map(([, label, c, width]) => ({ label, stroke: style(c), width, points: { show: false }, spanGaps: true, value: (u, v) => v == null ? '–' : Number(v.toPrecision(4)) }));
      let k = 0;
      if (chart.overlay) for (const name of others.keys()) lines.push({ label: name, stroke: style(palette[k++ % palette.length]), width: 1.5, spanGaps: true, points: { show: false }, value: (u, v) => v == null ? '–' : Number(v.toPrecision(4)) });
      return new uPlot({
        width: $(chart.id).clientWidth || 400, height: 220, plugins: [marks],
        scales: { x: { time: $('axis').value === 'time' }, y: { distr: chart.log && $('log').checked ? 3 : 1 } },
        axes: [{ ...axis }, { ...axis, size: 62, values: (u, all) => all.map((v) => v == null ? '' : String(Number(v.toPrecision(3)))) }],
        series: [{ label: $('axis').value }, ...lines], cursor: { sync: { key: 'run' } },
      }, data(chart), $(chart.id));
    });
    legend();
  }

  function legend() {
    const seen = [...new Set((series.marks || []).map((m) => m.kind))];
    const line = $('legend');
    line.textContent = seen.length ? 'On the axis:' : '';
    for (const kind of seen) {
      const i = document.createElement('i');
      i.style.background = style(colour[kind] || '--dim');
      line.append(i, kind);
    }
    document.body.dataset.charts = String((series.step || []).length);
  }

  async function reload() {
    series = await get(api('series?points=2000'));
    if (!(series.step || []).length) { document.body.dataset.charts = '0'; return; }
    if (plots.length === 0) { build(); return; }
    plots.forEach((p, i) => p.setData(data(charts[i])));
    legend();
  }

  // --- samples ---------------------------------------------------------------
  let samples = [];
  let playing = 0;
  function show(i) {
    const s = samples[i];
    if (!s) return;
    $('slider').value = i;
    $('grid').src = api('samples/' + s.file);
    $('grid').alt = 'Sample grid of step ' + s.step;
    text('slider-label', 'step ' + s.step);
    $('slider').setAttribute('aria-valuetext', 'step ' + s.step);
  }
  async function loadSamples() {
    const all = await get(api('samples'));
    if (all.length === samples.length) return;
    const last = Number($('slider').value) === samples.length - 1 || samples.length === 0;
    samples = all;
    $('s-samples').hidden = samples.length === 0;
    $('slider').max = Math.max(0, samples.length - 1);
    if (last) show(samples.length - 1);
  }
  $('slider').addEventListener('input', () => show(Number($('slider').value)));
  $('play').addEventListener('click', () => {
    if (playing) { clearInterval(playing); playing = 0; } else {
      playing = setInterval(() => show((Number($('slider').value) + 1) % samples.length), 700);
    }
    $('play').textContent = playing ? 'Pause' : 'Play';
    $('play').setAttribute('aria-pressed', String(!!playing));
  });

  // --- settings and log ------------------------------------------------------
  function table(element, head, rows) {
    const t = document.createElement('table');
    const h = t.createTHead().insertRow();
    for (const c of head) { const th = document.createElement('th'); th.scope = 'col'; th.textContent = c; h.append(th); }
    const body = t.createTBody();
    for (const r of rows) { const row = body.insertRow(); for (const c of r) row.insertCell().textContent = c; }
    element.replaceChildren(t);
  }
  async function settings() {
    const c = await get(api('config'));
    $('yaml').textContent = c.yaml;
    if (c.differs.length) table($('changed'), ['Setting', 'Value', 'Default'], c.differs.map((d) => [d.key, d.value, d.default]));
    else $('changed').textContent = c.yaml ? 'Every setting has its default.' : 'The run has no config.yaml.';
  }
  async function logNames() {
    const names = await get(api('logs'));
    const select = $('logfile');
    if (select.options.length === names.length) return;
    const before = select.value;
    select.replaceChildren(...names.map((n) => new Option(n, n)));
    if (names.includes(before)) select.value = before;
  }
  async function logText() {
    if (!$('logfile').value) return;
    const lines = await get(api('logs/' + encodeURIComponent($('logfile').value) + '?lines=200&filter=' + encodeURIComponent($('filter').value)));
    const e = $('logtext'), end = e.scrollTop + e.clientHeight >= e.scrollHeight - 8, next = lines.join('\n');
    if (e.textContent === next) return;
    e.textContent = next;
    if (end) e.scrollTop = e.scrollHeight;
  }
  $('logfile').addEventListener('change', logText);
  $('filter').addEventListener('input', logText);

  // --- several runs ----------------------------------------------------------
  const pick = $('run');
  if (pick) pick.addEventListener('change', () => pick.form.submit());
  async function overlay() {
    const wanted = [...document.querySelectorAll('.overlay:checked')].map((e) => e.value).filter((n) => n !== run);
    for (const name of [...others.keys()]) if (!wanted.includes(name)) others.delete(name);
    for (const name of wanted) if (!others.has(name)) others.set(name, await get(api('series?points=1000', name)));
    if (series && (series.step || []).length) build();
    await differ([run, ...wanted]);
  }
  async function differ(names) {
    $('keys').hidden = names.length < 2;
    if (names.length < 2) return;
    const all = await Promise.all(names.map((n) => get(api('config', n))));
    const keys = new Map();
    all.forEach((c, i) => c.differs.forEach((d) => {
      if (!keys.has(d.key)) keys.set(d.key, names.map(() => d.default));
      keys.get(d.key)[i] = d.value;
    }));
    const rows = [...keys].filter(([, v]) => new Set(v).size > 1).sort().map(([k, v]) => [k, ...v]);
    const box = $('differ').parentElement;
    const holder = document.createElement('div');
    table(holder, ['Setting', ...names], rows);
    holder.firstChild.id = 'differ';
    box.replaceChildren(holder.firstChild);
  }
  document.querySelectorAll('.overlay').forEach((e) => e.addEventListener('change', overlay));

  // --- actions ---------------------------------------------------------------
  let hide = 0;
  function toast(message) {
    text('toast', message);
    $('toast').classList.add('show');
    clearTimeout(hide);
    hide = setTimeout(() => $('toast').classList.remove('show'), 4000);
  }
  async function post(path, done) {
    try {
      const r = await fetch(api(path), { method: 'POST', headers: { 'X-Csrf-Token': document.querySelector('meta[name=csrf]').content } });
      toast(r.ok ? done : 'Refused: ' + await r.text());
    } catch { toast('The run does not answer.'); }
  }
  if ($('checkpoint')) {
    $('checkpoint').addEventListener('click', () => post('checkpoint', 'A checkpoint is being written.'));
    $('stop').addEventListener('click', () => {
      if (confirm('Save and stop the run on all nodes?')) post('stop', 'The run saves and stops.');
    });
  }

  // --- live ------------------------------------------------------------------
  let events = -1, epoch = -1, busy = false;
  async function news(m) {
    numbers(m.view);
    if (busy || (m.events === events && m.epoch === epoch)) return;
    busy = true;
    try {
      events = m.events; epoch = m.epoch;
      await reload();
      await loadSamples();
    } catch { events = -1; } finally { busy = false; }
  }
  const ignore = () => {};
  const stream = new EventSource(api('stream'));
  stream.onmessage = (e) => news(JSON.parse(e.data)).catch(ignore);
  stream.onerror = () => {
    $('health').className = 'health waiting';
    text('health', 'page not connected');
  };
  settings().catch(ignore);
  logNames().then(logText).catch(ignore);
  setInterval(() => { if (!document.hidden) logNames().then(logText).catch(ignore); }, 3000);
  for (const id of ['log', 'marks', 'axis']) $(id).addEventListener('change', () => { if (series && (series.step || []).length) build(); });
  let pending = 0;
  addEventListener('resize', () => { clearTimeout(pending); pending = setTimeout(() => plots.forEach((p, i) => p.setSize({ width: $(charts[i].id).clientWidth, height: 220 })), 150); });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { if (plots.length) build(); });
})();

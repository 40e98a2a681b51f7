/* Charts and live parts. Without this file every figure is still on the page, only still. */
(function () {
  "use strict";

  var root = document.documentElement;
  var lang = root.lang || "en";

  function colour(name) { return getComputedStyle(root).getPropertyValue("--" + name).trim(); }

  /* ---- charts ------------------------------------------------------------------------------------------------ */

  function split(values, planned, wantPlanned) {
    return values.map(function (value, i) {
      if (planned[i] === wantPlanned) return value;
      /* the planned stroke begins where the measured one ends, so that the course has no hole */
      if (wantPlanned && planned[i + 1] && !planned[i]) return value;
      return null;
    });
  }

  function atStart(values) { return [null].concat(values.slice(0, -1)); }

  function clock(zone) {
    var format = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: zone });
    return function (epoch_s) { return format.format(new Date(epoch_s * 1000)); };
  }

  /* marks show exceptions; where most is estimated the text says so and marks would only hide the course */
  function few(flags) { return flags.filter(Boolean).length * 4 <= flags.length; }

  function nearest(values, x) {
    var best = 0;
    for (var i = 1; i < values.length; i++) if (Math.abs(values[i] - x) < Math.abs(values[best] - x)) best = i;
    return best;
  }

  function Chart(figure) {
    this.figure = figure;
    this.box = figure.querySelector(".plot");
    this.kind = figure.dataset.kind;
    this.plots = [];
    this.readout = document.createElement("p");
    this.readout.className = "readout";
    this.readout.setAttribute("aria-hidden", "true");
    this.box.after(this.readout);
    this.load();
  }

  Chart.prototype.load = function () {
    var chart = this;
    fetch(this.figure.dataset.course, { headers: { Accept: "application/json" } })
      .then(function (answer) { return answer.ok ? answer.json() : null; })
      .then(function (course) { if (course && course.starts_s.length > 1) { chart.course = course; chart.draw(); } })
      .catch(function () { /* the table under the chart says the same */ });
  };

  Chart.prototype.panels = function () {
    var c = this.course, figure = this.figure, list = [];
    var kw = function (v) { return v == null ? "–" : v.toFixed(1) + "\u00a0kW"; };
    var share = function (v) { return v == null ? "–" : Math.round(v * 100) + "%"; };
    var money = function (v) {
      if (v == null) return "–";
      var size = Math.abs(v), digits = size >= 20 ? 0 : size >= 1 ? 2 : 3;
      return new Intl.NumberFormat(lang, {
        style: "currency", currency: figure.dataset.currency, minimumFractionDigits: digits, maximumFractionDigits: digits
      }).format(v) + "/kWh";
    };
    if (this.kind === "home") {
      var lines = [];
      if (figure.dataset.pv === "1") lines.push({ values: c.pv_kw, stroke: "sun", fill: "sun-fill", width: 1.5 });
      lines.push({ values: c.load_kw, stroke: "ink", width: 2, marked: true });
      list.push({ lines: lines, height: 176, unit: "kW", say: kw, floor: 0 });
    } else {
      list.push({
        lines: [
          { values: c.net_import_kw.map(function (v, i) { return c.planned[i] ? null : v; }), stroke: "ink", width: 2 },
          { values: c.planned_import_kw, stroke: "accent", width: 2, dash: [6, 4] }
        ], height: 190, unit: "kW", say: kw
      });
    }
    if (figure.dataset.battery === "1") {
      list.push({
        lines: [{ values: atStart(c.stored_end_frac), stroke: "accent", fill: "battery-fill", width: 1.5 }],
        height: 84, unit: "%", say: share, floor: 0, ceiling: 1, ticks: [0, 0.5, 1]
      });
    }
    if (this.kind === "home") {
      list.push({ lines: [{ values: c.buy_per_kwh, stroke: "price", width: 2, stepped: true }], height: 84, unit: "", say: money });
    }
    return list;
  };

  Chart.prototype.draw = function () {
    var chart = this, c = this.course, width = this.box.clientWidth;
    if (!width || typeof uPlot === "undefined") return;
    this.plots.forEach(function (plot) { plot.destroy(); });
    this.plots = [];
    var time = clock(c.zone), panels = this.panels(), key = "sync" + Math.random();
    panels.forEach(function (panel, index) {
      var last = index === panels.length - 1;
      chart.plots.push(chart.plot(panel, width, last, time, key));
    });
    this.say(nearest(c.starts_s, c.now_s));
  };

  Chart.prototype.plot = function (panel, width, last, time, key) {
    var chart = this, c = this.course, data = [c.starts_s], series = [{}];
    panel.lines.forEach(function (line) {
      [false, true].forEach(function (planned) {
        if (line.dash && planned) return;
        data.push(line.dash ? line.values : split(line.values, c.planned, planned));
        series.push({
          stroke: colour(line.stroke), width: line.width, spanGaps: false,
          fill: line.fill ? colour(line.fill) : undefined,
          dash: line.dash || (planned ? [4, 4] : undefined),
          paths: line.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
          points: line.marked && !planned
            ? { show: few(c.estimated), size: 5, width: 1, stroke: colour(line.stroke), fill: colour("sheet"),
                filter: function () { return c.estimated.reduce(function (found, yes, i) { if (yes) found.push(i); return found; }, []); } }
            : { show: false }
        });
      });
    });
    var soft = colour("soft"), grid = { stroke: colour("line"), width: 1 }, face = getComputedStyle(document.body).fontFamily, font = "12px " + face;
    var zone = function (epoch_s) { return uPlot.tzDate(new Date(epoch_s * 1e3), c.zone); };
    return new uPlot({
      width: width, height: panel.height + (last ? 26 : 0), series: series, tzDate: zone, padding: [panel.unit === "kW" ? 22 : 10, 16, last ? 0 : 8, 0],
      legend: { show: false }, select: { show: false },
      cursor: { sync: { key: key }, drag: { x: false, y: false }, y: false, points: { show: false } },
      scales: {
        x: { time: true },
        y: { range: function (u, low, high) {
          if (low == null) return [0, 1];
          var floor = panel.floor != null ? panel.floor : Math.min(low, low < 0 ? low * 1.1 : 0);
          var ceiling = panel.ceiling != null ? panel.ceiling : high * 1.12;
          return [floor, Math.max(ceiling, floor + 0.2 * Math.max(Math.abs(floor), 0.001), panel.unit === "kW" ? floor + 0.5 : floor)];
        } }
      },
      axes: [
        { show: last, stroke: soft, font: font, grid: grid, ticks: { show: false }, size: 26, gap: 4, space: 46,
          incrs: [3, 6, 12, 24].map(function (h) { return h * 3600; }),
          values: function (u, splits) { return splits.map(time); } },
        { stroke: soft, font: font, grid: grid, ticks: { show: false }, size: 40, gap: 4, space: 34,
          splits: panel.ticks ? function () { return panel.ticks; } : undefined,
          values: function (u, splits) { return splits.map(function (v) {
            if (panel.unit === "%") return Math.round(v * 100) + "%";
            return (Math.abs(v) >= 10 ? Math.round(v) : +v.toFixed(2)) + (panel.unit ? "" : "");
          }); } }
      ],
      hooks: {
        drawClear: [function (u) {
          var x = u.valToPos(c.now_s, "x", true), ctx = u.ctx, b = u.bbox;
          ctx.save(); ctx.fillStyle = colour("shade");
          ctx.fillRect(x, b.top, Math.max(0, b.left + b.width - x), b.height); ctx.restore();
        }],
        draw: [function (u) {
          var x = Math.round(u.valToPos(c.now_s, "x", true)), ctx = u.ctx, b = u.bbox, dpr = window.devicePixelRatio || 1;
          if (x < b.left || x > b.left + b.width) return;
          ctx.save(); ctx.strokeStyle = colour("soft"); ctx.lineWidth = dpr; ctx.beginPath();
          ctx.moveTo(x + .5, b.top); ctx.lineTo(x + .5, b.top + b.height); ctx.stroke();
          if (panel.unit === "kW") {
            ctx.fillStyle = colour("soft"); ctx.font = 12 * dpr + "px " + face; ctx.textBaseline = "top";
            ctx.textAlign = "left"; ctx.fillText("kW", 6 * dpr, b.top - 21 * dpr);
            ctx.textAlign = "center"; ctx.fillText(chart.figure.dataset.now, x, b.top - 21 * dpr);
          }
          ctx.restore();
        }],
        setCursor: [function (u) { chart.say(u.cursor.idx == null ? nearest(c.starts_s, c.now_s) : u.cursor.idx); }]
      }
    }, data, this.box);
  };

  Chart.prototype.say = function (i) {
    var c = this.course, parts = [clock(c.zone)(c.starts_s[i])];
    var names = Array.prototype.map.call(this.figure.querySelectorAll(".legend li"), function (li) { return li.textContent; });
    var n = 0;
    this.panels().forEach(function (panel) {
      panel.lines.forEach(function (line) { parts.push(names[n++] + "\u00a0" + panel.say(line.values[i])); });
    });
    if (c.estimated[i]) parts.push(this.figure.dataset.estimated);
    this.readout.textContent = parts.join(" · ");
  };

  var charts = Array.prototype.map.call(document.querySelectorAll("figure[data-course]"), function (f) { return new Chart(f); });
  function redraw() { charts.forEach(function (chart) { if (chart.course) chart.draw(); }); }
  var wait, lastWidth = window.innerWidth;
  window.addEventListener("resize", function () {
    if (window.innerWidth === lastWidth) return;
    lastWidth = window.innerWidth; clearTimeout(wait); wait = setTimeout(redraw, 150);
  });
  if (window.matchMedia) {
    var dark = window.matchMedia("(prefers-color-scheme: dark)");
    if (dark.addEventListener) dark.addEventListener("change", redraw);
  }

  /* ---- live parts -------------------------------------------------------------------------------------------- */

  function show(news) {
    Object.keys(news.parts || {}).forEach(function (id) {
      var part = document.getElementById(id), html = news.parts[id];
      if (!part || part.dataset.shown === html) return;
      /* what is announced to screen readers changes only when its words do */
      var fresh = document.createElement("div");
      fresh.innerHTML = html;
      if (part.innerHTML.trim() !== fresh.innerHTML.trim() && !part.contains(document.activeElement)) part.innerHTML = html;
      part.dataset.shown = html;
    });
    if (news.course) charts.forEach(function (chart) { chart.load(); });
  }

  var live = document.querySelector("[data-live]");
  if (live) {
    var poll = function () {
      fetch(live.dataset.parts, { headers: { Accept: "application/json" } })
        .then(function (answer) { return answer.ok ? answer.json() : null; })
        .then(function (news) { if (news) show(news); })
        .catch(function () {})
        .then(function () { setTimeout(poll, 15000); });
    };
    if (window.EventSource) {
      var source = new EventSource(live.dataset.live);
      source.onmessage = function (event) { show(JSON.parse(event.data)); };
      source.onerror = function () { if (source.readyState === EventSource.CLOSED) poll(); };
    } else {
      poll();
    }
  }
}());

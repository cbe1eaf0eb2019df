"use strict";
(() => {
  const darkness = window.matchMedia("(prefers-color-scheme: dark)");
  const plots = Array.from(document.querySelectorAll(".plot"));
  const paperWidth = 680;
  // plotly's modebar has a button that sends the data to its maker's server
  const config = {
    responsive: true, displaylogo: false, plotlyServerURL: "",
    modeBarButtonsToRemove: ["sendChartToCloud", "select2d", "lasso2d"],
  };

  function template(dark, width) {
    const ink = dark ? "#e6e9ed" : "#1b1f24";
    const line = dark ? "#3a424c" : "#d0d7de";
    const axis = {
      gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true,
      ticks: "outside", tickcolor: line, title: { standoff: 8 },
    };
    return {
      layout: {
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: ink, size: width < 600 ? 11 : 13, family: "system-ui, sans-serif" },
        hoverlabel: { bgcolor: dark ? "#2a3038" : "#ffffff", font: { color: ink } },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: dark ? "#a3acb6" : "#57606a", activecolor: ink },
        xaxis: axis, yaxis: axis,
      },
    };
  }

  function draw(plot, dark, width) {
    const spec = JSON.parse(document.getElementById(plot.dataset.spec).textContent);
    spec.layout.template = template(dark, width || plot.clientWidth);
    spec.layout.width = width;
    spec.layout.autosize = !width;
    Plotly.react(plot, spec.data, spec.layout, config);
  }

  function fail(plot, error) {
    plot.textContent = "This figure could not be drawn: " + error;
    plot.style.minHeight = "0";
  }

  function drawAll(dark, width) {
    for (const plot of plots) {
      try { draw(plot, dark, width); } catch (error) { fail(plot, error); }
    }
  }

  drawAll(darkness.matches);
  darkness.addEventListener("change", () => drawAll(darkness.matches));
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
    drawAll(false, paperWidth);
  });
  window.addEventListener("afterprint", () => drawAll(darkness.matches));
})();

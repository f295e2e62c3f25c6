// The values under the pointer, from the chart's own points.
for (const chart of document.querySelectorAll(".chart")) {
  const series = JSON.parse(chart.dataset.points);
  const [low, high, left, right, width] = JSON.parse(chart.dataset.edges);
  const svg = chart.querySelector("svg"), hair = chart.querySelector(".hair");
  const said = chart.querySelector("output");
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const place = (event.clientX - box.left) / box.width * width;
    const x = low + (place - left) / (right - left) * (high - low);
    const near = series.map(([name, , points]) =>
      [name, points.reduce((best, p) => Math.abs(p[0] - x) < Math.abs(best[0] - x) ? p : best)]);
    const step = near.map(([, p]) => p[0]).reduce((a, b) => Math.abs(b - x) < Math.abs(a - x) ? b : a);
    const at = left + (step - low) / (high - low) * (right - left);
    hair.setAttribute("x1", at); hair.setAttribute("x2", at); hair.style.visibility = "visible";
    said.textContent = `step ${Math.round(step)}: ` + near.map(([name, p]) =>
      near.length > 1 ? `${name} ${p[1]}` : p[1]).join(", ");
  });
  svg.addEventListener("pointerleave", () => { hair.style.visibility = "hidden"; said.textContent = ""; });
}

// Sets every equation of the page, by KaTeX, which is part of the site.
document.addEventListener("DOMContentLoaded", () => {
  for (const place of document.querySelectorAll(".arithmatex")) {
    const tex = place.textContent.trim();
    const displayMode = tex.startsWith("\\[");
    katex.render(tex.slice(2, -2), place, { displayMode, throwOnError: false });
  }
});

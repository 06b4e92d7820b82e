"""The style of a report: light and dark, for wide and narrow screens, and for print."""

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1b1f; --soft: #5c5f66;
  --line: #d9dbe0; --shade: #f4f5f7; --accent: #00588f; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #16181d; --ink: #e6e7ea;
  --soft: #a3a7b0; --line: #363a44; --shade: #1f2229; --accent: #7cc4f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1.5rem 1rem 3rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .6rem; padding-top: .8rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
a { color: var(--accent); }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: .8rem 0 0;
  padding: 0; }
.soft, figcaption, caption, footer { color: var(--soft); font-size: .9rem; }
.text { white-space: pre-line; max-width: 46rem; }
.scroll { overflow-x: auto; margin: .6rem 0 1.3rem; }
table { width: max-content; border-collapse: collapse; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { padding: .32rem .8rem .32rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; max-width: min(26rem, 60vw); }
th:last-child, td:last-child { padding-right: 0; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; font-weight: 600; }
tbody th { font-weight: 500; }
tfoot th, tfoot td { border-bottom: 0; font-weight: 600; }
.number { text-align: right; white-space: nowrap; }
pre, code { font-family: ui-monospace, monospace; font-size: .88rem; }
pre { background: var(--shade); border-radius: .4rem; padding: .7rem .9rem; overflow: auto;
  max-height: 24rem; }
pre.wrap { white-space: pre-wrap; overflow-wrap: anywhere; }
.figures { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
figure { margin: 0; min-width: 0; }
section > figure + figure { margin-top: 1.5rem; }
figure img { display: block; margin-bottom: .3rem; max-width: 100%; height: auto; }
figure img.dark { display: none; }
@media screen and (prefers-color-scheme: dark) { figure img.light { display: none; }
  figure img.dark { display: block; } }
/* Pictures that were drawn on white stay on white. */
img.paper { background: #ffffff; border-radius: .4rem; padding: .4rem; }
summary { cursor: pointer; color: var(--accent); }
footer { margin-top: 3rem; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  .figures { grid-template-columns: 1fr 1fr; }
  figure, tr, pre { break-inside: avoid; } h2, h3, caption { break-after: avoid; }
  .scroll { overflow: visible; } table { width: auto; }
  pre { max-height: none; white-space: pre-wrap; } }
"""

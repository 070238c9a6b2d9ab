"""How a report looks: on a desk, on a phone, in the dark, on paper. Every pair of text and ground has a contrast of 4.5
or more (WCAG 2.2, criterion 1.4.3), which the tests measure in a browser.

Tables and pictures that are wider than the page scroll inside their own box; the page itself never scrolls sideways.
"""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #4f5861; --paper: #ffffff; --tint: #f4f6f8; --line: #d0d7de;
  --accent: #0b5cad; --alarm: #b5390a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #a3adb7; --paper: #14181d; --tint: #1e242b;
  --line: #3a434d; --accent: #7ab8f5; --alarm: #ff9566; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 66rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 2.8rem 0 .6rem; padding-top: .9rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; line-height: 1.35; margin: 1.8rem 0 .4rem; }
p, .verdicts, nav ul { max-width: 46rem; }
section > p { white-space: pre-line; }
.lead { font-size: 1.15rem; color: var(--soft); margin: 0 0 1.2rem; }
.notice { border-left: .3rem solid var(--alarm); background: var(--tint); padding: .6rem 1rem; font-weight: 600; }
.absent { border-left: .3rem solid var(--line); background: var(--tint); padding: .6rem 1rem; }
code { font: .9em/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.skip { position: absolute; left: -999rem; }
.skip:focus { position: static; }
nav { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .9rem; }
nav ul { list-style: none; padding: 0; margin: 0; display: flex; flex-wrap: wrap; gap: 0 1.2rem; font-size: .9rem;
  max-width: none; }
nav a { display: inline-block; padding: .25rem 0; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.verdicts { padding: .8rem 1rem .8rem 2.2rem; background: var(--tint); border-radius: .4rem; }
.verdicts li + li { margin-top: .4rem; }
.scroll, .picture { overflow-x: auto; max-width: 100%; }
.scroll { margin: 1.2rem 0; }
.tall { max-height: 26rem; overflow-y: auto; border: 1px solid var(--line); border-radius: .3rem; padding: 0 .7rem; }
.tall thead th { position: sticky; top: 0; background: var(--paper); }
table { border-collapse: collapse; width: max-content; font-size: .86rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding: .4rem 0; }
caption span { display: block; position: sticky; left: 0; width: min(46rem, 100vw - 4rem); }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; max-width: 20rem; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
tbody th { font-weight: 400; }
tr.strong > * { font-weight: 700; }
.n { text-align: right; white-space: nowrap; }
figure { margin: 1.4rem 0; }
img { display: block; max-width: max(100%, 34rem); height: auto; background: #ffffff; border-radius: .3rem; }
figcaption { color: var(--soft); font-size: .9rem; max-width: 46rem; margin-top: .3rem; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) minmax(0, 1fr); gap: .3rem 1.2rem;
  font-size: .9rem; margin: 0; }
dt { grid-column: 1; color: var(--soft); }
dd { grid-column: 2; margin: 0; max-width: 46rem; overflow-wrap: anywhere; }
footer { margin-top: 3rem; padding-top: .9rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .85rem; }
@media (max-width: 40rem) { body { padding: 1.2rem 1rem 2.5rem; } h1 { font-size: 1.5rem; } dl { display: block; }
  dd { margin-bottom: .6rem; } caption span { width: calc(100vw - 3.6rem); } .tall { max-height: 70vh; } }
@media print { :root { --ink: #000; --soft: #444; --paper: #fff; --tint: #f4f4f4; --line: #bbb; --accent: #000;
  --alarm: #000; }
  body { max-width: none; padding: 0; font-size: 10pt; } nav, .skip { display: none; } h2, h3 { break-after: avoid; }
  figure, tr, li { break-inside: avoid; } .scroll, .picture { overflow: visible; }
  .tall { max-height: none; border: 0; padding: 0; } .tall thead th { position: static; }
  img { max-width: 100%; } table { font-size: 7.5pt; width: auto; } }
"""

"""The page's style sheet: light and dark, narrow and wide, screen and paper."""

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1a1d21;--soft:#5a626b;--line:#d5dae0;--card:#f5f7f9;--live:#8a949e;
--shadow:#3b6fd4;--pass:#17683a;--fail:#b3261e;--unsure:#7d5700;--passbg:#e3f4e9;--failbg:#fce8e6;--unsurebg:#fdf2d6}
@media(prefers-color-scheme:dark){:root{--bg:#15181c;--fg:#e6e9ec;--soft:#a0a9b3;--line:#363d45;--card:#1e2329;
--live:#8f99a3;--shadow:#7aa5f5;--pass:#7fd6a0;--fail:#ff9a92;--unsure:#f0c95c;--passbg:#14301f;--failbg:#3a1917;
--unsurebg:#352a0c}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:1rem;background:var(--bg);color:var(--fg);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:break-word}
h1{font-size:1.35rem;margin:.2rem 0}h2{font-size:1.15rem;margin:1.8rem 0 .5rem}h3{font-size:1rem;margin:1.2rem 0 .4rem}
p{margin:.4rem 0}.soft,figcaption,.why{color:var(--soft);font-size:.9rem}
.banner{border-left:.4rem solid;padding:.7rem 1rem;border-radius:.3rem;margin:1rem 0}
.banner strong{font-size:1.3rem;display:block}
.pass{color:var(--pass)}.fail{color:var(--fail)}.inconclusive,.no-data{color:var(--unsure)}
.banner.pass{background:var(--passbg)}.banner.fail{background:var(--failbg)}
.banner.inconclusive,.banner.no-data{background:var(--unsurebg)}.banner span{color:var(--fg)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:.7rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:.4rem;padding:.6rem .8rem}
.card h3{margin:0}.card b{font-size:.95rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;margin:.4rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .8rem .25rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
th{font-weight:600}td.n,th.n{text-align:right}td.n{white-space:nowrap}tbody th{font-weight:400;min-width:6rem}
table.wordy td:last-child{min-width:16rem}
table.wordy code{overflow-wrap:break-word}
table.wide{width:100%}table.wide tbody th{min-width:10rem}table.wide td:nth-child(3){min-width:14rem}
caption{text-align:left;color:var(--soft);font-size:.9rem}
code,pre{overflow-wrap:anywhere;font:.88rem/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{white-space:pre-wrap;background:var(--card);border:1px solid var(--line);padding:.6rem;border-radius:.3rem;
max-height:24rem;overflow:auto}
mark{background:var(--unsurebg);color:var(--fg);text-decoration:underline;text-decoration-color:var(--unsure)}
figure{margin:.8rem 0}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:0 1.5rem}
svg{width:100%;max-width:36rem;height:auto;display:block}svg.small{width:10rem;min-width:8rem}
svg text{font:15px system-ui,sans-serif;fill:var(--soft)}
.live{fill:var(--live)}.shadow{fill:var(--shadow)}.live.area{fill-opacity:.55}
.shadow.area{fill:var(--shadow);fill-opacity:.18;stroke:var(--shadow);stroke-width:2}
.axis{stroke:var(--line)}.level{stroke:var(--fg);stroke-dasharray:2 4}.mark{stroke:var(--fail);stroke-width:2}
.band{fill:var(--shadow);fill-opacity:.22}.shadowline{fill:none;stroke:var(--shadow);stroke-width:2.5}.dot{fill:var(--fg)}
.liveline{fill:none;stroke:var(--live);stroke-width:2.5;stroke-dasharray:6 4}
.strip.pass{fill:var(--passbg)}.strip.fail{fill:var(--failbg)}.strip:is(.inconclusive,.no-data){fill:var(--unsurebg)}
.strip{stroke:var(--line)}
.key{display:inline-block;width:.9em;height:.9em;border-radius:.15em;vertical-align:-.1em}
.key.live{background:var(--live)}.key.shadow{background:var(--shadow)}
details{border:1px solid var(--line);border-radius:.3rem;padding:.3rem .7rem;margin:.4rem 0}summary{cursor:pointer}
ul{margin:.3rem 0;padding-left:1.2rem}a{color:inherit}section{border-top:1px solid var(--line);margin-top:1.5rem}
main>section:first-child{border:0;margin:0}.word{font-weight:700;white-space:nowrap}
@media(max-width:40rem){table.wide thead{display:none}
table.wide :is(tbody,tr,td,th){display:block;border:0;padding:.1rem 0}
table.wide tr{border-bottom:1px solid var(--line);padding:.4rem 0}}
@media print{body{max-width:none;font-size:11pt}details{break-inside:avoid}figure,table,.card{break-inside:avoid}
pre{max-height:none}}
"""

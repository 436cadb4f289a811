/* SPDX-License-Identifier: Apache-2.0 */
/* How the page looks: one column of text, figures in a grid that has as many columns as fit, a table whose rows
 * become cards where it does not fit, light or dark as the reader's system is, and light on paper. */
#include "report_impl.h"

static const char rules[] =
    "*{box-sizing:border-box}\n"
    "html{-webkit-text-size-adjust:100%}\n"
    "body{margin:0;background:var(--p3);color:var(--p0);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,"
    "'Helvetica Neue',Arial,sans-serif}\n"
    "header,main,footer{max-width:1360px;margin:0 auto;padding:0 clamp(12px,3vw,32px)}\n"
    "h1{font-size:1.6rem;line-height:1.2;margin:1.4rem 0 .4rem}\n"
    "h2{font-size:1.2rem;line-height:1.25;margin:2.4rem 0 .3rem;padding-top:.6rem;border-top:1px solid var(--p2)}\n"
    "p{margin:.4rem 0;max-width:76ch;overflow-wrap:anywhere}\n"
    ".note{color:var(--p1);font-size:.9rem}\n"
    "code{font:.92em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}\n"
    "a{color:inherit}\n"
    /* Verdict. */
    ".verdict{margin:1rem 0;padding:.7rem 1rem;border:1px solid var(--p2);border-left:6px solid "
    "var(--good);border-radius:6px}\n"
    ".verdict.bad{border-left-color:var(--bad)}.verdict.open{border-left-color:var(--p8)}\n"
    ".verdict strong{font-size:1.05rem}\n"
    ".verdict ul{margin:.4rem 0 0;padding-left:1.2rem}\n"
    ".verdict li{overflow-wrap:anywhere}\n"
    ".tag{display:inline-block;padding:0 .45em;border-radius:4px;font-size:.8em;font-weight:600;border:1px solid "
    "currentColor}\n"
    ".tag.VALID{color:var(--good)}.tag.INVALID{color:var(--bad)}.tag.UNFINISHED{color:var(--p8)}\n"
    /* Tables. */
    ".scroll{overflow-x:auto}\n"
    "table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums;margin:.6rem 0}\n"
    "caption{text-align:left;color:var(--p1);font-size:.9rem;padding:.2rem 0;caption-side:bottom}\n"
    "th,td{padding:.3rem .45rem;text-align:right;border-bottom:1px solid var(--p2);vertical-align:top}\n"
    "th{font-weight:600}\n"
    "thead th{vertical-align:bottom;white-space:nowrap}\n"
    "thead small{display:block;font-weight:400;color:var(--p1)}\n"
    "th:first-child,td:first-child,.left{text-align:left}\n"
    "td small{display:block;color:var(--p1);white-space:nowrap}\n"
    "tbody th{font-weight:600;min-width:9rem;overflow-wrap:anywhere}\n"
    "table.wrap thead th{white-space:normal;max-width:8.5rem}\n"
    "td.left{overflow-wrap:anywhere;max-width:28rem;min-width:4.6rem}\n"
    /* Legends and figures. */
    ".legend{list-style:none;display:flex;flex-wrap:wrap;gap:.15rem 1.1rem;margin:.5rem 0;padding:0;font-size:.9rem}\n"
    ".legend li{display:flex;align-items:center;gap:.4rem;overflow-wrap:anywhere}\n"
    ".legend svg,.swatch{flex:none;width:40px;height:14px;vertical-align:-2px}\n"
    ".legend i{flex:none;width:14px;height:14px;border-radius:2px}\n"
    ".figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:1rem 1.2rem}\n"
    ".figures.large{grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr))}\n"
    "@media screen and (min-width:1180px){.figures.four{grid-template-columns:repeat(4,1fr)}}\n"
    "figure{margin:0;min-width:0}\n"
    "figcaption{font-size:.9rem;font-weight:600;line-height:1.3;overflow-wrap:anywhere}\n"
    "svg.plot{display:block;width:100%;height:auto;max-width:560px}\n"
    "details{margin:1rem 0}\n"
    "summary{cursor:pointer;font-weight:600}\n"
    "footer{color:var(--p1);font-size:.85rem;margin-top:3rem;padding-bottom:2rem}\n"
    /* Where the table does not fit, a row is a card. */
    "@media screen and (max-width:760px){\n"
    "table.cards thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}\n"
    "table.cards,table.cards tbody,table.cards tr,table.cards th,table.cards td,table.cards "
    "caption{display:block;width:100%}\n"
    "table.cards tr{border:1px solid var(--p2);border-radius:6px;padding:.4rem .7rem;margin:.6rem 0}\n"
    "table.cards th,table.cards td{border:0;padding:.12rem 0}\n"
    "table.cards td{display:flex;justify-content:space-between;gap:1rem;text-align:right}\n"
    "table.cards td::before{content:attr(data-label);color:var(--p1);text-align:left}\n"
    "table.cards td small{display:inline;padding-left:.5em}\n"
    "table.cards td.none{display:none}\n"
    "}\n"
    "@media print{\n"
    "body{font-size:10pt}.head,h2{break-after:avoid}.head,figure,tr,.verdict{break-inside:avoid}\n"
    ".figures{grid-template-columns:repeat(3,minmax(0,1fr))}.figures.large{grid-template-columns:repeat(2,minmax(0,1fr)"
    ")}\n"
    ".figures.four{grid-template-columns:repeat(4,minmax(0,1fr))}.scroll{overflow:visible}\n"
    ".legend i,.tag{print-color-adjust:exact;-webkit-print-color-adjust:exact}thead th{white-space:normal}\n"
    "table{font-size:7.5pt}th,td{padding:.15rem .3rem}tbody th{min-width:2.4cm;overflow-wrap:normal}\n"
    "details::details-content{display:block;content-visibility:visible}\n"
    "}\n";

static sow_code add_palette(sow_words *out, bool is_dark)
{
    SOW_TRY(sow_words_print(out, ":root{color-scheme:%s;--good:%s;--bad:%s", is_dark ? "dark" : "light",
                            is_dark ? "#4cc38a" : "#0b7a3e", is_dark ? "#ff8b7d" : "#b3261e"));
    for (int i = 0; i < REPORT_SERIES + REPORT_N_SERIES; i++)
        SOW_TRY(sow_words_print(out, ";--p%d:%s", i, is_dark ? report_colour_dark(i) : report_colour_light(i)));
    return sow_words_print(out, "}\n");
}

sow_code report_page_style(sow_words *out)
{
    SOW_TRY(sow_words_print(out, "<style>\n"));
    SOW_TRY(add_palette(out, false));
    SOW_TRY(sow_words_print(out, "@media screen and (prefers-color-scheme:dark){\n"));
    SOW_TRY(add_palette(out, true));
    SOW_TRY(sow_words_print(out, "}\n"));
    SOW_TRY(sow_words_add(out, rules, sizeof rules - 1));
    return sow_words_print(out, "</style>\n");
}

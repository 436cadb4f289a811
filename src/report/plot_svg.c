/* SPDX-License-Identifier: Apache-2.0 */
/* gnuplot's SVG made fit: for the page, where it scales (viewBox, no width), takes its colours from the page (CSS
 * variables), shares the definitions of markers with all others and has a name for those who do not see it; and for
 * files of their own, with title and legend, on paper, in the light colours. */
#include "report_impl.h"

#include <stdio.h>
#include <string.h>

enum { TITLE_HEIGHT = 24, ROW_HEIGHT = 19, SWATCH_WIDTH = 48, LETTER_WIDTH = 7 };

static bool begins(const char *line, const char *with)
{
    return strncmp(line, with, strlen(with)) == 0;
}

/* "rgb(  1,   0,   4)" -> the page's variable, or the light colour; where none of ours stands there, *end is `text`. */
static const char *our_colour(const char *text, bool is_alone, const char **end)
{
    int r = 0, g = 0, b = 0, used = 0;
    *end = text;
    if (sscanf(text, "rgb( %d , %d , %d )%n", &r, &g, &b, &used) != 3 || used == 0 || r != 1 || g != 0 || b < 0 ||
        b >= REPORT_SERIES + REPORT_N_SERIES)
        return NULL;
    *end = text + used;
    return is_alone ? report_colour_light(b) : report_colour_css(b);
}

/* A line with our colours in the place of theirs.  Names that would stand in a page many times are left out. */
static sow_code add_line(sow_words *out, const char *line, size_t bytes, bool is_alone)
{
    static const char name[] = " id=\"gnuplot_";
    for (const char *at = line, *end = line + bytes; at < end;) {
        const char *behind = at, *colour = begins(at, "rgb(") ? our_colour(at, is_alone, &behind) : NULL;
        if (colour != NULL) {
            SOW_TRY(sow_words_print(out, "%s", colour));
        } else if (!is_alone && begins(at, name)) {
            behind = at + strlen(name);
            behind += strcspn(behind, "\"");
            behind += *behind == '"';
        } else {
            SOW_TRY(sow_words_add(out, at, 1));
            behind = at + 1;
        }
        at = behind;
    }
    return sow_words_add(out, "\n", 1);
}

/* White spots under the points of error bars: they would cut holes into what lies below, and paper is not always
 * white. */
static bool is_spot(const char *line, size_t bytes)
{
    static const char end[] = "color='white'/>";
    return begins(line, "<use ") && bytes > strlen(end) && begins(line + bytes - strlen(end), end);
}

/* Whole lines up to the end, without blanks in front; empty groups are left out. */
static sow_code add_lines(sow_words *out, const char *text, bool is_alone)
{
    while (*text != '\0') {
        size_t bytes = strcspn(text, "\n"), blanks = strspn(text, " \t");
        const char *line = text + blanks, *next = text + bytes + (text[bytes] == '\n');
        bool is_empty_group = begins(line, "<g fill=\"none\"") && begins(next, "</g>\n");
        if (begins(line, "</svg>"))
            return SOW_OK;
        if (is_empty_group)
            next += strlen("</g>\n");
        else if (bytes > blanks && !is_spot(line, bytes - blanks))
            SOW_TRY(add_line(out, line, bytes - blanks, is_alone));
        text = next;
    }
    return SOW_OK;
}

/* The size of the drawing, and where its definitions and its body begin. */
typedef struct drawing {
    int width, height;
    const char *defs, *body;
} drawing;

static sow_code open_drawing(const char *svg, const char *id, drawing *out)
{
    static const char end[] = "</defs>";
    const char *box = strstr(svg, "viewBox=\""), *defs = strstr(svg, "<defs>"), *body = strstr(svg, end);
    if (box == NULL || defs == NULL || body == NULL || body < defs ||
        sscanf(box, "viewBox=\"0 0 %d %d\"", &out->width, &out->height) != 2)
        return SOW_FAIL(SOW_EFORMAT, "%s.svg: is not what gnuplot is known to write", id);
    out->defs = defs;
    out->body = body + strlen(end);
    return SOW_OK;
}

sow_code report_svg_for_page(const char *svg, const report_plot *plot, sow_words *out)
{
    drawing d = {0};
    SOW_TRY(open_drawing(svg, plot->id, &d));
    SOW_TRY(sow_words_print(out, "<svg class=\"plot\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", d.width,
                            d.height));
    SOW_TRY(report_html(out, plot->title));
    SOW_TRY(sow_words_print(out, "\">\n<g>\n"));
    SOW_TRY(add_lines(out, d.body, false));
    return sow_words_print(out, "</svg>\n");
}

/* ---- Files of their own ---- */

/* What a legend says: a line with a marker or without, or a square (marker 0). */
typedef struct legend_item {
    const char *name, *dash;
    int colour, marker;
    double opacity;
} legend_item;

enum { MAX_ITEMS = 64, NO_MARKER = -1 };

static int make_legend(const report *r, const report_plot *plot, report_phase phases[REPORT_MAX_PHASES],
                       legend_item items[MAX_ITEMS])
{
    const int section = plot->section;
    int n = 0;
    if (section == REPORT_SECTION_PUBLISHED) {
        items[0] = (legend_item){"theirs: ES", "", REPORT_INK, 6, 1};
        items[1] = strcmp(plot->id, "published-norm") == 0
                       ? (legend_item){"alpha sqrt(d T / N)", "1.5 3", REPORT_INK, NO_MARKER, 1}
                       : (legend_item){"theirs: GRPO", "3 3", REPORT_MUTED, 4, 1};
        return 2;
    }
    if (section == REPORT_SECTION_PHASES) {
        n = report_find_phases(r, phases);
        for (int i = 0; i < n; i++)
            items[i] = (legend_item){phases[i].name, "", phases[i].colour, 0, phases[i].opacity};
        return n;
    }
    for (; n < r->n_groups && n < MAX_ITEMS; n++) {
        report_style style = report_style_in(r, n, section);
        items[n] = (legend_item){r->groups[n].name, style.svg_dash, style.colour, style.marker, 1};
    }
    return n;
}

static sow_code add_item(const legend_item *item, int x, int y, sow_words *out)
{
    const char *colour = report_colour_light(item->colour);
    if (item->marker == 0)
        SOW_TRY(sow_words_print(out, "<rect x=\"%d\" y=\"%d\" width=\"34\" height=\"12\" fill=\"%s\" opacity=\"%g\"/>",
                                x, y - 10, colour, item->opacity));
    else
        SOW_TRY(sow_words_print(out, "<path d=\"M%d %dh34\" stroke=\"%s\" stroke-width=\"2\" stroke-dasharray=\"%s\"/>",
                                x, y - 4, colour, item->dash[0] != '\0' ? item->dash : "none"));
    if (item->marker > 0)
        SOW_TRY(sow_words_print(out,
                                "<use xlink:href=\"#gpPt%d\" transform=\"translate(%d,%d) scale(4)\" fill=\"none\" "
                                "color=\"%s\"/>",
                                item->marker - 1, x + 17, y - 4, colour));
    SOW_TRY(sow_words_print(out, "<text x=\"%d\" y=\"%d\">", x + 40, y));
    SOW_TRY(report_html(out, item->name));
    return sow_words_print(out, "</text>\n");
}

sow_code report_svg_alone(const report *r, const char *svg, const report_plot *plot, sow_words *out)
{
    drawing d = {0};
    report_phase phases[REPORT_MAX_PHASES];
    legend_item items[MAX_ITEMS];
    int n = make_legend(r, plot, phases, items), widest = 1;
    SOW_TRY(open_drawing(svg, plot->id, &d));
    for (int i = 0; i < n; i++) {
        int width = SWATCH_WIDTH + LETTER_WIDTH * (int)strlen(items[i].name);
        widest = width > widest ? width : widest;
    }
    int columns = d.width / widest > 1 ? d.width / widest : 1, rows = (n + columns - 1) / columns;
    int bottom = TITLE_HEIGHT + d.height, height = bottom + rows * ROW_HEIGHT + 6;
    SOW_TRY(sow_words_print(out,
                            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<svg viewBox=\"0 0 %d %d\" "
                            "xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\">\n"
                            "<rect width=\"%d\" height=\"%d\" fill=\"%s\"/>\n",
                            d.width, height, d.width, height, report_colour_light(REPORT_PAPER)));
    SOW_TRY(sow_words_add(out, d.defs, (size_t)(d.body - d.defs)));
    SOW_TRY(sow_words_print(out,
                            "\n<g font-family=\"sans-serif\" font-size=\"13\" fill=\"%s\">\n<text x=\"10\" y=\"17\" "
                            "font-weight=\"bold\">",
                            report_colour_light(REPORT_INK)));
    SOW_TRY(report_html(out, plot->title));
    SOW_TRY(sow_words_print(out, "</text>\n"));
    for (int i = 0; i < n; i++)
        SOW_TRY(
            add_item(&items[i], 10 + i % columns * (d.width / columns), bottom + 14 + i / columns * ROW_HEIGHT, out));
    SOW_TRY(sow_words_print(out, "</g>\n<g transform=\"translate(0,%d)\">\n", TITLE_HEIGHT));
    SOW_TRY(add_lines(out, d.body, true));
    return sow_words_print(out, "</svg>\n");
}

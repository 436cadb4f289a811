/* SPDX-License-Identifier: Apache-2.0 */
/* Figures by gnuplot, run once over one script in a temporary folder, taken into the page by plot_svg.c.
 *
 * gnuplot is a program of the system, found on PATH when a report is made; nothing is linked, and without it the page
 * has its tables.  It is started without a shell, its scripts hold no text of strangers but what report_plot_text
 * lets through, and it reads no settings of the user. */
#define _GNU_SOURCE /* posix_spawn_file_actions_addchdir_np, glibc and musl */
#include "report_impl.h"

#include "sower/alloc.h"
#include "sower/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TIME_LIMIT_S = 120, MAX_SVG_BYTES = 16 << 20 };

extern char **environ;

/* ---- Colours and styles ---- */

/* After Okabe and Ito (2008), darker or lighter where needed for a contrast of 3 to 1 with the paper. */
static const struct {
    const char *css, *light, *dark;
} colours[REPORT_SERIES + REPORT_N_SERIES] = {
    {"var(--p0)", "#1b1b1f", "#e8e8ee"}, /* ink */
    {"var(--p1)", "#6b6b76", "#9d9daa"}, /* muted */
    {"var(--p2)", "#dcdce3", "#3a3a44"}, /* grid */
    {"var(--p3)", "#ffffff", "#17171c"}, /* paper */
    {"var(--p4)", "#0072b2", "#56b4e9"},  {"var(--p5)", "#d55e00", "#ff8a4c"},  {"var(--p6)", "#008a63", "#2ecc9a"},
    {"var(--p7)", "#a8458c", "#e08bc7"},  {"var(--p8)", "#a87600", "#f0c246"},  {"var(--p9)", "#3d8fd1", "#a6d8ff"},
    {"var(--p10)", "#8b1e3f", "#f58ba8"}, {"var(--p11)", "#5b5b1e", "#c9c97a"},
};

const char *report_colour_code(int colour, char out[8])
{
    (void)snprintf(out, 8, "#0100%02x", (unsigned)colour & 0xffU);
    return out;
}

const char *report_colour_css(int colour)
{
    return colours[colour].css;
}

const char *report_colour_light(int colour)
{
    return colours[colour].light;
}

const char *report_colour_dark(int colour)
{
    return colours[colour].dark;
}

report_style report_style_of(const report *r, int64_t group)
{
    static const char *const dashes[][2] = {
        {"solid", ""}, {"(9,3)", "9 3"}, {"(3,3)", "3 3"}, {"(9,3,2,3)", "9 3 2 3"}, {"(5,2)", "5 2"}};
    static const int markers[] = {7, 5, 9, 13, 11, 15, 6, 4}; /* disc, square, triangle, diamond, ... */
    int64_t i = 0;
    if (r->groups[group].is_control)
        return (report_style){REPORT_MUTED, 2, "(2,3)", "2 3"};
    for (int64_t g = 0; g < group; g++)
        i += !r->groups[g].is_control;
    return (report_style){REPORT_SERIES + (int)(i % REPORT_N_SERIES), markers[i % 8], dashes[i % 5][0],
                          dashes[i % 5][1]};
}

report_style report_style_in(const report *r, int64_t group, int section)
{
    report_style style = report_style_of(r, group);
    if (section == REPORT_SECTION_ITEMS || section == REPORT_SECTION_NORM) {
        style.dash = "solid";
        style.svg_dash = "";
    }
    return style;
}

/* ---- The script ---- */

sow_code report_plot_text(sow_words *out, const char *text)
{
    static const char plain[] = " _-+=.,:;/()[]*#%|";
    SOW_TRY(sow_words_add(out, "'", 1));
    bool is_utf8 = sow_words_is_utf8(text, strlen(text));
    for (const char *c = text; *c != '\0'; c++) {
        bool is_plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
                        strchr(plain, *c) != NULL || (is_utf8 && ((unsigned char)*c & 0x80) != 0);
        SOW_TRY(sow_words_add(out, is_plain ? c : "?", 1));
    }
    return sow_words_add(out, "'", 1);
}

sow_code report_plots_begin(report_plots *plots, int section, const char *id, const char *title, int width, int height)
{
    char ink[8], muted[8], grid[8];
    sow_words *s = &plots->script;
    SOW_TRY(SOW_GROW(&plots->plots, &plots->capacity, plots->n));
    report_plot *plot = &plots->plots[plots->n++];
    plot->section = section;
    (void)snprintf(plot->id, sizeof plot->id, "%s", id);
    (void)snprintf(plot->title, sizeof plot->title, "%s", title);
    for (char *c = plot->id; *c != '\0'; c++) /* it becomes the name of a file */
        if (!((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9')))
            *c = '-';
    int n = 2;
    size_t length = strlen(plot->id);
    for (int64_t i = 0; i < plots->n - 1; i++)
        if (strcmp(plots->plots[i].id, plot->id) == 0) {
            (void)snprintf(plot->id + length, sizeof plot->id - length, "-%d", n++);
            i = -1;
        }
    (void)report_colour_code(REPORT_INK, ink);
    (void)report_colour_code(REPORT_MUTED, muted);
    (void)report_colour_code(REPORT_GRID, grid);
    SOW_TRY(sow_words_print(s, "\nreset\nset terminal svg size %d,%d dynamic enhanced font 'sans-serif,14'\n", width,
                            height));
    SOW_TRY(sow_words_print(s, "set output '%s.svg'\nset key off\nset border 3 lc rgb '%s' lw 1\n", plot->id, muted));
    SOW_TRY(sow_words_print(s, "set tics nomirror out scale 0.5 tc rgb '%s'\n", ink));
    SOW_TRY(sow_words_print(
        s, "set grid lt 1 lw 1 lc rgb '%s' dt solid\nset style fill transparent solid 0.18 noborder\n", grid));
    return sow_words_print(s,
                           "set pointintervalbox 0\nset lmargin 8\nset rmargin 2\nset tmargin 0.7\nset bmargin 3.2\n");
}

/* ---- Running it ---- */

static sow_code make_temporary(char out[SOW_TEXT])
{
    const char *top = getenv("TMPDIR");
    SOW_TRY(sow_file_join(top != NULL && top[0] != '\0' ? top : "/tmp", "sower-report-XXXXXX", out, SOW_TEXT));
    if (mkdtemp(out) == NULL)
        return SOW_FAIL(SOW_EIO, "%s: cannot make a folder: %s", out, strerror(errno));
    return SOW_OK;
}

/* Waits for the child; one that takes too long is ended.  Its status as waitpid gives it, -1: it was ended. */
static int wait_for(pid_t pid)
{
    int status = 0;
    for (int i = 0; i < TIME_LIMIT_S * 100; i++) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid)
            return status;
        if (got < 0 && errno != EINTR)
            return -1;
        (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
    return -1;
}

/* gnuplot in `folder` over figures.gp; what it says goes to gnuplot.txt.  Returns errno, or 0 and its status. */
static int spawn_gnuplot(const char *folder, int *status)
{
    char *const words[] = {(char[]){"gnuplot"}, (char[]){"-d"}, (char[]){"figures.gp"}, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid = 0;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0)
        return rc;
    rc = posix_spawn_file_actions_addchdir_np(&actions, folder);
    rc = rc != 0 ? rc : posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    rc =
        rc != 0 ? rc : posix_spawn_file_actions_addopen(&actions, 1, "gnuplot.txt", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    rc = rc != 0 ? rc : posix_spawn_file_actions_adddup2(&actions, 1, 2);
    rc = rc != 0 ? rc : posix_spawnp(&pid, "gnuplot", &actions, NULL, words, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (rc == 0)
        *status = wait_for(pid);
    return rc;
}

/* ---- All of it ---- */

/* The figure in a file of its own. */
static sow_code keep_figure(const report *r, const char *svg, const report_plot *plot, const char *folder)
{
    char name[80], path[SOW_TEXT];
    sow_words text = {0};
    (void)snprintf(name, sizeof name, "%s.svg", plot->id);
    SOW_TRY(sow_file_join(folder, name, path, sizeof path));
    sow_code rc = report_svg_alone(r, svg, plot, &text);
    if (rc == SOW_OK)
        rc = sow_file_write(path, text.text, text.bytes);
    sow_words_fini(&text);
    return rc;
}

/* Takes one figure in; a file that is not there is none. */
static sow_code take_figure(const report *r, report_plot *plot, const char *folder, const char *keep)
{
    char name[80], path[SOW_TEXT], *svg = NULL;
    size_t bytes = 0;
    (void)snprintf(name, sizeof name, "%s.svg", plot->id);
    SOW_TRY(sow_file_join(folder, name, path, sizeof path));
    if (!sow_file_exists(path))
        return SOW_OK;
    SOW_TRY(sow_file_read(path, MAX_SVG_BYTES, &svg, &bytes));
    sow_code rc = report_svg_for_page(svg, plot, &plot->svg);
    if (rc == SOW_OK && keep != NULL)
        rc = keep_figure(r, svg, plot, keep);
    SOW_FREE(&svg);
    return rc;
}

/* What gnuplot said, on one line; "" if nothing. */
static void first_words(const char *folder, char out[SOW_TEXT])
{
    char path[SOW_TEXT], *said = NULL;
    size_t bytes = 0, n = 0;
    out[0] = '\0';
    if (sow_file_join(folder, "gnuplot.txt", path, sizeof path) != SOW_OK ||
        sow_file_read(path, MAX_SVG_BYTES, &said, &bytes) != SOW_OK)
        return;
    for (size_t i = 0; i < bytes && n < 200; i++)
        if ((unsigned char)said[i] > ' ' || (n > 0 && out[n - 1] != ' '))
            out[n++] = (unsigned char)said[i] > ' ' && said[i] != 0x7f ? said[i] : ' ';
    out[n] = '\0';
    SOW_FREE(&said);
}

static sow_code run_in(const report *r, report_plots *plots, const char *folder, const char *keep, sow_words *problem)
{
    char path[SOW_TEXT], said[SOW_TEXT];
    int status = 0;
    SOW_TRY(sow_file_join(folder, "figures.gp", path, sizeof path));
    SOW_TRY(sow_file_write(path, plots->script.text, plots->script.bytes));
    if (keep != NULL) {
        SOW_TRY(sow_file_join(keep, "figures.gp", path, sizeof path));
        SOW_TRY(sow_file_write(path, plots->script.text, plots->script.bytes));
    }
    int rc = spawn_gnuplot(folder, &status);
    if (rc == ENOENT)
        return sow_words_print(problem, "gnuplot is not installed (Debian: gnuplot-nox): there are tables only");
    if (rc != 0)
        return sow_words_print(problem, "gnuplot cannot be started: %s", strerror(rc));
    first_words(folder, said);
    if (status != 0)
        SOW_TRY(sow_words_print(problem, "gnuplot did not make all figures: %s", said));
    for (int64_t i = 0; i < plots->n; i++)
        SOW_TRY(take_figure(r, &plots->plots[i], folder, keep));
    return SOW_OK;
}

static void remove_temporary(const report_plots *plots, const char *folder)
{
    static const char *const names[] = {"figures.gp", "gnuplot.txt"};
    char path[SOW_TEXT], name[80];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (sow_file_join(folder, names[i], path, sizeof path) == SOW_OK)
            (void)unlink(path);
    for (int64_t i = 0; i < plots->n; i++) {
        (void)snprintf(name, sizeof name, "%s.svg", plots->plots[i].id);
        if (sow_file_join(folder, name, path, sizeof path) == SOW_OK)
            (void)unlink(path);
    }
    (void)rmdir(folder);
}

sow_code report_plots_run(const report *r, report_plots *plots, const char *keep, sow_words *problem)
{
    char folder[SOW_TEXT];
    if (plots->n == 0)
        return SOW_OK;
    if (keep != NULL)
        SOW_TRY(sow_file_make_folder(keep));
    SOW_TRY(make_temporary(folder));
    sow_code rc = run_in(r, plots, folder, keep, problem);
    remove_temporary(plots, folder);
    return rc;
}

void report_plots_fini(report_plots *plots)
{
    for (int64_t i = 0; i < plots->n; i++)
        sow_words_fini(&plots->plots[i].svg);
    SOW_FREE(&plots->plots);
    sow_words_fini(&plots->script);
}

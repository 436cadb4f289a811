/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this layer share.
 *
 *     frame.c     a file of JSON lines as a table of numbers: a row a step, a column a number
 *     runs.c      a run's folder: status, configuration, frames
 *     judge.c     what is wrong with it
 *     derive.c    columns that are made of others
 *     groups.c    runs of one configuration, and the name that tells a group from the others
 *     series.c    mean and interval over a group's seeds: a curve, or one number of the table
 *     figures.c   curves (figures.def) as scripts and data for gnuplot;  figures_kinds.c, figures_phases.c, published.c
 *                 the other figures;  plot.c runs gnuplot, plot_svg.c mends its SVG
 *     page.c      the page;  page_text.c escaping and numbers;  page_tables.c, page_settings.c its tables
 *     csv.c       every number for other programs
 *
 * Needs: json, words, options, folder, ledger, stats. */
#ifndef SOWER_REPORT_IMPL_H
#define SOWER_REPORT_IMPL_H

#include "sower/error.h"
#include "sower/folder.h"
#include "sower/json.h"
#include "sower/options.h"
#include "sower/words.h"

#include <stdbool.h>

/* ---- frame.c ---- */

enum { REPORT_NAME = 128, REPORT_MAX_COLUMNS = 8192 };

typedef struct report_cell {
    int64_t row;
    double value;
} report_cell;

/* Values of one name, rows ascending; a row without a value has no cell. */
typedef struct report_column {
    char name[REPORT_NAME]; /* "reward", "eval.accuracy", "probes.calc.accuracy", "layers.2.norm" */
    int64_t n, capacity;
    report_cell *cells; /* owned */
} report_column;

typedef struct report_frame {
    int64_t n_rows, rows_capacity, n_columns, columns_capacity;
    int64_t *steps;         /* owned, ascending */
    report_column *columns; /* owned */
    int64_t hint;           /* where the next name probably is */
    int64_t n_items, items_capacity;
    struct report_item { /* the name of an item of a list; kept, since the item may be null in other lines */
        char path[REPORT_NAME], name[REPORT_NAME];
        int64_t index;
    } * items;         /* owned */
    bool has_torn_end; /* the last line is not whole: the run is at work, or was killed */
} report_frame;

/* Reads FOLDER/name; no file: no rows.  Members called `skip` (may be NULL) are left out.  A wrong line ends the
 * reading and is told in *trouble ("metrics.jsonl:3: ..."); what stands before it is kept.  Fails only without
 * memory. */
SOW_NODISCARD sow_code report_frame_read(const char *folder, const char *name, const char *skip, report_frame *out,
                                         sow_words *trouble);
void report_frame_fini(report_frame *frame);
/* NULL if there is none. */
const report_column *report_frame_find(const report_frame *frame, const char *name);
/* Into a column, which is made if it is new; quick where rows come in order.  Not finite: nothing. */
SOW_NODISCARD sow_code report_frame_set(report_frame *frame, const char *name, int64_t row, double value);
/* NAN where there is none; column may be NULL. */
double report_column_at(const report_column *column, int64_t row);
/* The row of a step, -1: none. */
int64_t report_frame_row(const report_frame *frame, int64_t step);

/* ---- runs.c ---- */

typedef enum report_file { REPORT_METRICS, REPORT_DRIFT, REPORT_KL, REPORT_SPECTRA, REPORT_N_FILES } report_file;
extern const char *const report_file_names[REPORT_N_FILES];

/* A setting of a run, as text.  Owned. */
typedef struct report_setting {
    char *key, *value, *default_value;
    bool is_free;
} report_setting;

typedef struct report_run {
    char *folder, *name; /* owned; name: the folder's last part, made different from the others' */
    sow_status status;
    bool has_options;
    sow_options options;
    sow_json *facts; /* owned; run.json, NULL: none */
    report_frame frames[REPORT_N_FILES];
    int64_t n_settings, settings_capacity;
    report_setting *settings; /* owned */
    sow_words reasons;        /* why it is INVALID, "; " between them */
    int64_t n_probes;
    char probes[SOW_MAX_PROBES][REPORT_NAME];
    bool is_choice[SOW_MAX_PROBES]; /* answered by log-likelihood among choices */
    char task[64];                  /* the target, "" if it was not evaluated */
    int64_t last_row;               /* of metrics: the last one with an evaluation, -1: none */
    int64_t group;                  /* its number */
    bool is_copy;                   /* another run of its group has the same seeds: not counted twice */
    bool is_counted;                /* among those that the group's numbers are made of */
} report_run;

/* Reads what a run left.  SOW_EIO, SOW_EFORMAT if the folder is none of a run; everything else that is wrong becomes a
 * reason.  Names of probes are those of metrics.jsonl. */
SOW_NODISCARD sow_code report_run_read(const char *folder, report_run *out);
void report_run_fini(report_run *run);
/* derive.c: names the probes and adds the columns that are made of others. */
SOW_NODISCARD sow_code report_run_derive(report_run *run);
/* Whether a row of metrics has target, prior or choice. */
bool report_run_is_evaluated(const report_run *run, int64_t row);
/* judge.c: adds the reasons that its files give. */
SOW_NODISCARD sow_code report_run_judge(report_run *run);
/* A text of run.json; "" if there is none.  A number of it; NAN if there is none. */
const char *report_run_fact(const report_run *run, const char *key);
double report_run_number(const report_run *run, const char *key);
const char *report_run_setting(const report_run *run, const char *key); /* NULL: has none of that name */
SOW_NODISCARD sow_code report_run_reason(report_run *run, const char *fmt, ...) SOW_PRINTF(2, 3);
/* "VALID", "INVALID", "UNFINISHED". */
const char *report_run_verdict(const report_run *run);

/* ---- groups.c ---- */

typedef struct report_group {
    char name[REPORT_NAME];
    int64_t first;     /* its first run */
    int64_t n, n_used; /* runs; and those that its numbers are made of */
    bool is_control;   /* a random walk: rewards are ignored */
    int64_t end_step;  /* the last step that all used runs have evaluated, -1: none */
    const char *note;  /* why not all runs are used; "" if they are.  Static */
} report_group;

struct sow_report {
    int64_t n_runs, n_groups, groups_capacity;
    report_run *runs;     /* owned */
    report_group *groups; /* owned */
    int64_t n_warnings, warnings_capacity;
    char **warnings; /* owned */
};
typedef struct sow_report report;

SOW_NODISCARD sow_code report_make_groups(report *r);
SOW_NODISCARD sow_code report_warn(report *r, const char *fmt, ...) SOW_PRINTF(2, 3);
/* Whether a setting is of no consequence for which group a run belongs to. */
bool report_setting_is_idle(const char *key);
/* The next used run of a group after `run` (start with -1), -1: no more. */
int64_t report_next_used(const report *r, const report_group *group, int64_t run);

/* ---- series.c ---- */

typedef enum report_interval { REPORT_NO_INTERVAL, REPORT_BY_SEEDS, REPORT_BY_ITEMS } report_interval;

/* A mean over seeds.  low, high: 95 % interval, NAN where there is none.  is_partial: some seeds of the group lack the
 * number. */
typedef struct report_mean {
    int64_t n;
    bool is_partial;
    double mean, low, high;
    report_interval interval;
} report_mean;

/* By Student's t over n runs; for one run the interval of its items, if there is one. */
report_mean report_mean_of(const double *values, int64_t n, double low, double high);

typedef struct report_point {
    int64_t step;
    double x, x_low, x_high; /* NAN: x has no interval */
    report_mean y;
} report_point;

/* Points of a curve: one for each step that every used run of the group has y at (or those of one run: `run` >= 0).
 * x NULL: the step.  Room for points is made; *n 0 if there are none. */
SOW_NODISCARD sow_code report_curve(const report *r, const report_group *group, int64_t run, report_file file,
                                    const char *x, const char *y, report_point **points, int64_t *n);

/* The table's columns (columns.def). */
typedef struct report_measure {
    const char *id, *head, *unit;
    double scale;
    int digits; /* behind the point; -1: three significant ones */
    const char *doc;
} report_measure;
enum report_measure_index {
#define COLUMN(id, column, kind, head, unit, scale, digits, doc) REPORT_MEASURE_##id,
#include "columns.def"
};
int report_measure_count(void);
const report_measure *report_measure_at(int i);
/* Of a group at its end_step; of a run at its last evaluation.  n 0: not known. */
SOW_NODISCARD sow_code report_group_value(const report *r, const report_group *group, int measure, report_mean *out);
report_mean report_run_value(const report_run *run, int measure, int64_t step);
/* The step of a run's last evaluation, -1: none. */
int64_t report_run_end(const report_run *run);

/* ---- plot.c: gnuplot ---- */

/* Colours of a plot.  They stand in a script as RGB values that nobody would choose; in the page they become CSS
 * variables, so that light and dark are the page's business, in files of their own the light ones. */
enum report_colour { REPORT_INK, REPORT_MUTED, REPORT_GRID, REPORT_PAPER, REPORT_SERIES, REPORT_N_SERIES = 8 };
/* "#010004": for a script.  colour: one of the above, or REPORT_SERIES + 0 .. REPORT_N_SERIES - 1. */
const char *report_colour_code(int colour, char out[8]);
/* "var(--p4)", "#0072B2". */
const char *report_colour_css(int colour);
const char *report_colour_light(int colour);
const char *report_colour_dark(int colour);

/* How series i is drawn: colours first, then dashes and markers, so that no two of the first 40 look alike, and none of
 * the first 8 alike without colour. */
typedef struct report_style {
    int colour, marker; /* gnuplot's pointtype */
    const char *dash;   /* gnuplot's dashtype: "solid", "(8,4)" */
    const char *svg_dash;
} report_style;
report_style report_style_of(const report *r, int64_t group);
/* The same in a section: where a dotted line is another quantity, groups are full lines. */
report_style report_style_in(const report *r, int64_t group, int section);

typedef struct report_plot {
    char id[64], title[96];
    int section;   /* number of a row of sections.def */
    sow_words svg; /* ready for the page; empty if gnuplot did not make it */
} report_plot;

typedef struct report_plots {
    int64_t n, capacity;
    report_plot *plots; /* owned */
    sow_words script;
} report_plots;

/* Begins a figure: from here the script is its own.  Text is shown as report_plot_text makes it. */
SOW_NODISCARD sow_code report_plots_begin(report_plots *plots, int section, const char *id, const char *title,
                                          int width, int height);
/* Adds 'TEXT' for a script: letters, digits and plain marks as they are, anything that means something to gnuplot or
 * SVG as ?. */
SOW_NODISCARD sow_code report_plot_text(sow_words *out, const char *text);
/* Runs the script and takes the figures in.  `keep` (may be NULL): a folder for each as a file of its own, and the
 * script.  *problem: "" or why there are none. */
SOW_NODISCARD sow_code report_plots_run(const report *r, report_plots *plots, const char *keep, sow_words *problem);
/* plot_svg.c: gnuplot's file as a part of the page, and as a file of its own with title and legend. */
SOW_NODISCARD sow_code report_svg_for_page(const char *svg, const report_plot *plot, sow_words *out);
SOW_NODISCARD sow_code report_svg_alone(const report *r, const char *svg, const report_plot *plot, sow_words *out);
void report_plots_fini(report_plots *plots);

/* ---- figures.c, figures_kinds.c, figures_phases.c, published.c ---- */

enum {
#define SECTION(id, title, caption) REPORT_SECTION_##id,
#include "sections.def"
    REPORT_N_SECTIONS
};
SOW_NODISCARD sow_code report_make_figures(const report *r, report_plots *plots);
SOW_NODISCARD sow_code report_make_kinds(const report *r, report_plots *plots);
SOW_NODISCARD sow_code report_make_phases(const report *r, report_plots *plots);
SOW_NODISCARD sow_code report_make_published(const report *r, report_plots *plots);
/* A number that every kind of tensor has, and every layer. */
enum { REPORT_MAX_VIEWS = 10 };
typedef struct report_view {
    report_file file;
    char column[32]; /* behind "kinds.NAME." */
    char title[48];
    const char *label; /* of its axis */
    double scale, least;
} report_view;
/* Ways to call a weight unmoved: thresholds on float32 masters, and 16-bit copies.  Their number; 0 without drift. */
int report_find_views(const report *r, report_view views[REPORT_MAX_VIEWS]);
/* The mean over a group's runs of a column at their last records; NAN if one lacks it. */
double report_last_mean(const report *r, const report_group *group, report_file file, const char *column);
/* A phase of a step, as it is drawn. */
enum { REPORT_MAX_PHASES = 32 };
typedef struct report_phase {
    const char *column; /* "phases.NAME.avg"; borrowed from a run */
    char name[48];
    int colour;
    double opacity; /* tells phases of one colour apart */
} report_phase;
/* Phases of all runs, in the order in which they first stand in a file, without those that take no time to speak of. */
int report_find_phases(const report *r, report_phase phases[REPORT_MAX_PHASES]);
/* Mean seconds per step that a rank of the group spends in a phase. */
double report_phase_seconds(const report *r, const report_group *group, const report_phase *phase);

/* ---- page.c and its parts ---- */

/* Text of strangers as HTML and XML. */
SOW_NODISCARD sow_code report_html(sow_words *out, const char *text);
/* A number as a measure shows it; "-" (a dash) if it is not finite. */
const char *report_number(char out[32], double value, double scale, int digits);
SOW_NODISCARD sow_code report_page(const report *r, const report_plots *plots, const char *problem, sow_words *out);
SOW_NODISCARD sow_code report_page_verdict(const report *r, sow_words *out);
SOW_NODISCARD sow_code report_page_table(const report *r, sow_words *out);
SOW_NODISCARD sow_code report_page_runs(const report *r, sow_words *out);
SOW_NODISCARD sow_code report_page_settings(const report *r, sow_words *out);
SOW_NODISCARD sow_code report_page_sparsity(const report *r, sow_words *out);
SOW_NODISCARD sow_code report_page_phases(const report *r, sow_words *out);
/* section: that its figures stand in, -1: none. */
SOW_NODISCARD sow_code report_page_swatch(const report *r, int64_t group, int section, sow_words *out);
SOW_NODISCARD sow_code report_page_style(sow_words *out);
/* "45.8 [41.5, 50.2]" as HTML. */
SOW_NODISCARD sow_code report_mean_html(sow_words *out, const report_mean *mean, int measure);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* A comparison of runs: one page with figures, a table, JSON lines, and all numbers in long form.
 *
 *     open -> page, csv, table, put        reads the folders of runs and changes nothing in them
 *
 * Runs whose configurations differ in their seeds only are one group, and its numbers are means over them
 * (docs/REPORT.md).
 *
 * Needs: folder, ledger, options, stats; gnuplot on PATH for figures, at run time.  Threads: one report, one thread.
 * Ranks: knows none. */
#ifndef SOWER_REPORT_H
#define SOWER_REPORT_H

#include "sower/error.h"
#include "sower/words.h"

struct sow_line; /* json.h */

typedef struct sow_report sow_report;

/* Reads n >= 1 folders.  SOW_EIO, SOW_EFORMAT naming the first that is none of a run.  What is wrong with a run's files
 * makes it INVALID in the report and is no failure; a run at work is shown as far as it is. */
SOW_NODISCARD sow_code sow_report_open(char *const *folders, int64_t n, sow_report **out);
void sow_report_close(sow_report **report);

/* What a person should know before believing the numbers: runs of different base models, copies, ...  Borrowed. */
int64_t sow_report_n_warnings(const sow_report *report);
const char *sow_report_warning(const sow_report *report, int64_t i);

/* Writes the page, atomically.  figures (may be NULL): a folder that gets each figure as an SVG of its own and the
 * script they are made by.  Without gnuplot the page says so and has no figures; that is a warning more, not a
 * failure. */
SOW_NODISCARD sow_code sow_report_write_page(sow_report *report, const char *path, const char *figures);
/* run,group,seed,step,metric,value: every number of every file that the report read, and those made of them. */
SOW_NODISCARD sow_code sow_report_write_csv(const sow_report *report, const char *path);

/* Lines for people: a row a group. */
SOW_NODISCARD sow_code sow_report_write_table(const sow_report *report, sow_words *out);
/* The members of one JSON object: item i of groups, then of runs. */
int64_t sow_report_n_items(const sow_report *report);
SOW_NODISCARD sow_code sow_report_put(struct sow_line *line, const sow_report *report, int64_t i);

#endif

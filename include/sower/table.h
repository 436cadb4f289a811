/* SPDX-License-Identifier: Apache-2.0 */
/* A run as a table: how it stands, its evaluations over the steps, and what it answered before and after.
 *
 * Needs: folder, json, words.  Threads: plain data after it was read.  Ranks: knows none. */
#ifndef SOWER_TABLE_H
#define SOWER_TABLE_H

#include "sower/error.h"
#include "sower/folder.h"
#include "sower/json.h"
#include "sower/words.h"

#include <stdbool.h>

/* One evaluation.  NAN: was not measured. */
typedef struct sow_table_row {
    int64_t step;
    double accuracy, low, high;             /* of the held-out rows of the target, with Wilson's 95 % interval */
    double reward, reward_low, reward_high; /* of the same rows */
    double probes[SOW_MAX_PROBES], prior;   /* accuracies, and their mean without `mc` if all are there */
    double norm, norm_law;
} sow_table_row;

/* A row of samples.jsonl at two steps.  Texts are owned. */
typedef struct sow_table_sample {
    int64_t row, steps[2];
    char *prompt, *completions[2];
    double rewards[2];
} sow_table_sample;

typedef struct sow_table {
    sow_status status;
    char task[32]; /* "" if it was not evaluated */
    int64_t n_probes, n_rows, n_samples;
    char probes[SOW_MAX_PROBES][32];
    sow_table_row *rows;       /* owned */
    sow_table_sample *samples; /* owned */
    double tokens_per_s;       /* of the last generation, NAN: none yet */
    int64_t rows_capacity, samples_capacity;
} sow_table;

/* Reads status.json, metrics.jsonl and samples.jsonl of a run's folder, which may be still at work: a torn last line is
 * left out.  SOW_EIO, SOW_EFORMAT name file and line. */
SOW_NODISCARD sow_code sow_table_read(const char *folder, sow_table **out);
void sow_table_destroy(sow_table **table);

/* Lines for people. */
SOW_NODISCARD sow_code sow_table_write(const sow_table *table, sow_words *out);
/* The members of one JSON object. */
void sow_table_put(sow_line *line, const sow_table *table);

#endif

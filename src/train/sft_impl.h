/* SPDX-License-Identifier: Apache-2.0 */
/* Which rows a supervised step trains on: pure functions of the options and the row's number, the same on every rank.
 *
 *     rows of `task`    row number t of the run is row t mod n of epoch t / n; every epoch has its own order
 *     a mix             one draw says which portion, another which of its rows */
#ifndef SOWER_SFT_IMPL_H
#define SOWER_SFT_IMPL_H

#include "sower/error.h"
#include "sower/evaluate.h"
#include "sower/options.h"

#include <stdbool.h>

/* A portion of `sft.mix`. */
typedef struct sow_portion {
    char task[96], form[16]; /* form "": the task's own */
    double weight;
    int job;      /* of the evaluator */
    uint32_t end; /* a draw of 32 bits below it (and not below the portion before) is this one's */
} sow_portion;

typedef struct sow_mix {
    sow_portion portions[SOW_MAX_MIX];
    int64_t n; /* 0: there is no mix */
} sow_mix;

/* "calc=2, countdown/short=1"; false: it is not a mix. */
bool sow_mix_parse(const char *text, sow_mix *out);
/* SOW_ECONF naming sft.mix unless it is a mix of tasks that make their own rows. */
SOW_NODISCARD sow_code sow_mix_check(const sow_conf *conf);
/* Options of a portion's task, taken from those of `task`. */
void sow_mix_task(const sow_portion *portion, const sow_task_options *task, sow_task_options *out);
/* Cuts 2^32 into the portions. */
void sow_mix_cut(sow_mix *mix);
/* Row i of a step: which portion, and which of its rows. */
int64_t sow_mix_draw(const sow_mix *mix, uint32_t seed, int64_t step, int64_t i, int64_t *row);

/* The order of the epoch looked at last. */
typedef struct sow_epochs {
    int64_t *order; /* owned [n] */
    int64_t n, epoch;
} sow_epochs;
/* n: rows of the task, always the same.  Row number `at` (from 0) of the run into *row. */
SOW_NODISCARD sow_code sow_epochs_row(sow_epochs *epochs, uint32_t seed, int64_t n, int64_t at, int64_t *row);
void sow_epochs_fini(sow_epochs *epochs);

#endif

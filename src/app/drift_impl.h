/* SPDX-License-Identifier: Apache-2.0 */
/* sower drift beyond norms: spectra of the update, and KL on tasks. */
#ifndef SOWER_APP_DRIFT_IMPL_H
#define SOWER_APP_DRIFT_IMPL_H

#include "app_impl.h"

#include "sower/kl.h"
#include "sower/spectrum.h"

/* Two models of one shape. */
typedef struct sow_pair {
    const sow_app *app;
    const sow_options *options;
    sow_model *base;          /* tokenizer and chat format are the base's */
    const sow_layout *layout; /* of both */
    const float *theta_base, *theta_tuned;
} sow_pair;

/* Spectra of all matrices, [n_tensors], to be freed; and as a table, by kind or by tensor. */
SOW_NODISCARD sow_code sow_pair_spectra(const sow_pair *pair, sow_spectrum **out);
SOW_NODISCARD sow_code sow_pair_say_spectra(const sow_pair *pair, const sow_spectrum *spectra, bool by_tensor);

enum { SOW_PAIR_TASKS = 16 };
typedef struct sow_pair_kl {
    int n;
    char names[SOW_PAIR_TASKS][32];
    sow_kl kl[SOW_PAIR_TASKS];
} sow_pair_kl;
/* KL on `rows` rows of each task of a list with commas. */
SOW_NODISCARD sow_code sow_pair_measure_kl(const sow_pair *pair, const char *tasks, int64_t rows, sow_pair_kl *out);
SOW_NODISCARD sow_code sow_pair_say_kl(const sow_pair_kl *kl);

#endif

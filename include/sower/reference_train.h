/* SPDX-License-Identifier: Apache-2.0 */
/* Comparison of training with a reference: loss and gradients of cross-entropy, steps of AdamW, policy losses with
 * their gradients, as another program recorded them for a model.
 *
 * Needs: gradient, loss, reference (its form of a result), json.  Threads: call from the first thread.  Ranks: knows
 * none.  Not collective.  One code for `sower check` and for the golden tests.
 *
 * The reference is a JSON object with any of the keys below (form: design, golden/tinystories_grad_shared.json).
 *
 *     "ce"      {ids: [[...], ...], loss, grad}              mean over all targets of all rows
 *     "adamw"   {lr, betas, eps, weight_decay, clip (a norm, or null), losses: [before each step, after the last],
 *                params: {tensor: [[flat index, value], ...]}}                             steps on ce's rows
 *     "policy"  [{loss_type, clip_low, clip_high, beta, max_completion, prompt_len, ids, completion_lens, advantages,
 *                old_logp, ref_logp, logp, loss, clip_fraction, mean_kl, grad}, ...]
 *     grad      {tensor: {norm, samples: [[flat index, value], ...]}}
 *
 * Results of a part are one JSON object with the same names, and its verdict. */
#ifndef SOWER_REFERENCE_TRAIN_H
#define SOWER_REFERENCE_TRAIN_H

#include "sower/gradient.h"
#include "sower/json.h"
#include "sower/reference.h"

typedef struct sow_train_reference_args {
    sow_la *la;
    const sow_layout *layout;
    sow_type type;
    const float *theta;
    const sow_gradient_options *options;
    const sow_json *reference;
    const char *what; /* names the reference in messages */
    /* Largest deviation: 1e-4.  Of a loss, a norm, a parameter as a share of it; of an element of a gradient as a share
     * of it or of its tensor's root mean square; of a log-probability below 1 absolute; of a policy loss, whose terms
     * may cancel, as a share of it or of what it would be if they did not. */
    double tolerance;
    sow_line *line; /* room for results */
    /* Called for each part ("ce", "adamw", "policy.0", ...); `line` holds an object of its results and verdict. */
    sow_code (*report)(void *context, const sow_reference_part *part, sow_line *line);
    void *context;
} sow_train_reference_args;

/* Whether a reference has such a part. */
bool sow_train_reference_has(const sow_json *reference);
/* *out_wrong: the wrong values of all parts.  SOW_EFORMAT if a part is not of this form. */
SOW_NODISCARD sow_code sow_train_reference_check(const sow_train_reference_args *args, int64_t *out_wrong);

#endif

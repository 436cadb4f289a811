/* SPDX-License-Identifier: Apache-2.0 */
/* Drift as JSON: of everything, by kind of tensor, by layer, by tensor. */
#include "sower/drift.h"
#include "sower/json.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static void put_drift(sow_line *line, const sow_drift *d, const sow_tau *tau)
{
    sow_line_int(line, "n", d->n);
    sow_line_real(line, "norm", sqrt(d->delta2));
    sow_line_real(line, "relative", d->base2 > 0 ? sqrt(d->delta2 / d->base2) : 0);
    sow_line_real(line, "max_abs", d->max_abs);
    sow_line_real(line, "paper_norm", sqrt(d->paper2));
    sow_line_begin_array(line, "within"); /* share of |delta| <= tau, float32 view */
    for (int64_t i = 0; i < tau->n; i++)
        sow_line_real(line, NULL, (double)d->within[i] / (double)d->n);
    sow_line_end_array(line);
    sow_line_real(line, "same_bf16", (double)d->same_bf16 / (double)d->n);
    sow_line_real(line, "same_fp16", (double)d->same_fp16 / (double)d->n);
}

/* Groups of tensors: by kind (the group's name) or by layer; `pick` says the group of a tensor. */
static void put_group(sow_line *line, const char *key, const sow_layout *layout, const sow_drift *drifts,
                      const sow_tau *tau, bool (*pick)(const sow_tensor *tensor, const void *group), const void *group)
{
    sow_drift sum = {0};
    for (int64_t i = 0; i < layout->n_tensors; i++)
        if (pick(&layout->tensors[i], group))
            sow_drift_add(&sum, &drifts[i]);
    if (sum.n == 0)
        return;
    sow_line_begin_object(line, key);
    put_drift(line, &sum, tau);
    sow_line_end_object(line);
}

static bool is_of_kind(const sow_tensor *tensor, const void *group)
{
    return strcmp(sow_tensor_group(tensor->kind), group) == 0;
}

static bool is_of_layer(const sow_tensor *tensor, const void *group)
{
    return tensor->layer == *(const int *)group;
}

static bool is_any(const sow_tensor *tensor, const void *group)
{
    (void)group;
    return tensor->rows > 0;
}

/* The first tensor of each group stands for it. */
static bool is_first_of_kind(const sow_layout *layout, int64_t index)
{
    for (int64_t i = 0; i < index; i++)
        if (is_of_kind(&layout->tensors[i], sow_tensor_group(layout->tensors[index].kind)))
            return false;
    return true;
}

void sow_drift_put(sow_line *line, const sow_layout *layout, const sow_drift *drifts, const sow_tau *tau)
{
    sow_line_begin_array(line, "tau");
    for (int64_t i = 0; i < tau->n; i++)
        sow_line_real(line, NULL, tau->values[i]);
    sow_line_end_array(line);
    put_group(line, "all", layout, drifts, tau, is_any, NULL);
    sow_line_begin_object(line, "kinds");
    for (int64_t i = 0; i < layout->n_tensors; i++)
        if (is_first_of_kind(layout, i))
            put_group(line, sow_tensor_group(layout->tensors[i].kind), layout, drifts, tau, is_of_kind,
                      sow_tensor_group(layout->tensors[i].kind));
    sow_line_end_object(line);
    sow_line_begin_array(line, "layers");
    for (int layer = 0; layer < (int)layout->shape.n_layers; layer++)
        put_group(line, NULL, layout, drifts, tau, is_of_layer, &layer);
    sow_line_end_array(line);
    sow_line_begin_object(line, "tensors");
    for (int64_t i = 0; i < layout->n_tensors; i++) {
        sow_line_begin_object(line, layout->tensors[i].name);
        put_drift(line, &drifts[i], tau);
        sow_line_end_object(line);
    }
    sow_line_end_object(line);
}

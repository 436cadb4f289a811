/* SPDX-License-Identifier: Apache-2.0 */
/* What is alike for all methods; what a step is made of says the method's row. */
#include "sower/plan.h"

#include "train_impl.h"

#include <stdio.h>

/* What no model decides, as measured with Open MPI 4.1 (docs/PERFORMANCE.md): pages of program and libraries, which the
 * ranks of a node share; a rank's buffers in them; a tokenizer's 370 (GPT-2) to 630 (SmolLM2) bytes a token. */
static const int64_t code_bytes = INT64_C(12) << 20, buffer_bytes = INT64_C(5) << 20, token_bytes = 512;

/* MemAvailable of /proc/meminfo in bytes; 0 where there is none. */
static int64_t available_bytes(void)
{
    FILE *file = fopen("/proc/meminfo", "r");
    char line[128];
    long long kib = 0;
    if (file == NULL)
        return 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "MemAvailable: %lld kB", &kib) == 1)
            break;
    (void)fclose(file);
    return (int64_t)kib * 1024;
}

double sow_plan_forward_flops(const sow_plan_args *a, int64_t rows, int64_t samples)
{
    /* A prompt is computed once for its samples; the middle of a row is where attention is of middle length. */
    double tokens = (double)rows * (double)a->prompt_tokens + (double)samples * (double)a->max_new;
    return tokens * sow_layout_flops(a->layout, (a->prompt_tokens + a->max_new) / 2);
}

static void add_up(const sow_plan_args *a, sow_plan *p)
{
    p->shared_bytes = p->theta_bytes + p->moments_bytes + p->gradient_bytes + p->totals_bytes + p->code_bytes;
    p->rank_bytes = p->replica_bytes + p->reference_bytes + p->engine_bytes + p->sums_bytes + p->backward_bytes +
                    p->samples_bytes + p->program_bytes;
    p->node_bytes = p->shared_bytes + a->ranks_per_node * p->rank_bytes + p->root_bytes + p->measure_bytes;
}

void sow_plan_make(const sow_plan_args *a, sow_plan *out)
{
    const sow_options *o = a->options;
    int64_t most = a->layout->shape.max_positions, positions = a->longest_answered < most ? a->longest_answered : most;
    sow_plan p = {.ranks = a->ranks,
                  .ranks_per_node = a->ranks_per_node,
                  .nodes = (a->ranks + a->ranks_per_node - 1) / a->ranks_per_node,
                  .threads = a->threads,
                  .tokens_per_row = a->prompt_tokens + a->max_new,
                  .code_bytes = code_bytes,
                  .program_bytes = buffer_bytes + token_bytes * a->layout->shape.vocab_size,
                  .available_bytes = available_bytes()};
    p.theta_bytes = (int64_t)sow_theta_bytes(a->layout, o->es.update_block);
    p.replica_bytes = (int64_t)sow_replica_bytes(a->layout, a->type);
    sow_method_find(o->method)->plan(a, &p);
    p.tokens = p.samples * p.tokens_per_row;
    int64_t batch = o->generate.batch < p.samples ? o->generate.batch : p.samples;
    p.engine_bytes = (int64_t)sow_engine_bytes(a->layout, batch, positions);
    p.measure_bytes = sow_measure_bytes(o, a->layout, a->type, positions);
    add_up(a, &p);
    *out = p;
}

sow_code sow_plan_check(const sow_plan *p)
{
    if (p->available_bytes > 0 && p->node_bytes > p->available_bytes)
        return SOW_FAIL(SOW_ENOMEM,
                        "this node has %.2f GiB of memory free, %.2f GiB are needed: %.2f shared by its ranks and %lld "
                        "x %.2f for ranks",
                        (double)p->available_bytes / 0x1p30, (double)p->node_bytes / 0x1p30,
                        (double)(p->shared_bytes + p->root_bytes + p->measure_bytes) / 0x1p30,
                        (long long)p->ranks_per_node, (double)p->rank_bytes / 0x1p30);
    return SOW_OK;
}

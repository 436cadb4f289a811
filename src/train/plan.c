/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/plan.h"

#include "train_impl.h"

#include <stdio.h>

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

void sow_plan_make(const sow_options *o, const sow_layout *layout, sow_type type, int64_t ranks, int64_t ranks_per_node,
                   int64_t threads, int64_t prompt_tokens, int64_t max_new, int64_t all, sow_plan *out)
{
    sow_plan p = {.ranks = ranks, .ranks_per_node = ranks_per_node, .threads = threads};
    p.rows = o->es.batch > 0 && o->es.batch < all ? o->es.batch : all;
    p.tokens_per_row = prompt_tokens + max_new;
    p.tokens = p.rows * p.tokens_per_row;
    int64_t positions = p.tokens_per_row < layout->shape.max_positions ? p.tokens_per_row : layout->shape.max_positions;
    int64_t batch = o->generate.batch < p.rows ? o->generate.batch : p.rows;
    p.theta_bytes = (int64_t)(sow_theta_bytes(layout, o->es.update_block) + sow_run_mask_bytes(o, layout));
    int64_t n_replicas = o->es.kl_beta > 0 ? 2 : 1; /* the base beside the member */
    p.replica_bytes = n_replicas * (int64_t)sow_replica_bytes(layout, type);
    p.engine_bytes = (int64_t)sow_engine_bytes(layout, batch, positions);
    p.measure_bytes = sow_measure_bytes(o, layout, type, positions);
    p.node_bytes = p.theta_bytes + ranks_per_node * (p.replica_bytes + p.engine_bytes) + p.measure_bytes;
    p.available_bytes = available_bytes();
    int64_t slices = p.tokens / o->es.unit_tokens_min;
    slices = slices < 1 ? 1 : slices > p.rows ? p.rows : slices;
    p.units = o->es.population * slices;
    p.useful_ranks = p.units;
    p.eval_flops = (double)n_replicas * (double)o->es.population * (double)p.rows * (double)p.tokens_per_row *
                   sow_layout_flops(layout, p.tokens_per_row / 2);
    p.update_elements = (double)o->es.population * (double)layout->n_parameters;
    *out = p;
}

sow_code sow_plan_check(const sow_plan *p)
{
    if (p->available_bytes > 0 && p->node_bytes > p->available_bytes)
        return SOW_FAIL(SOW_ENOMEM,
                        "this node has %.2f GiB of memory free, %.2f GiB are needed: %.2f for the weights and %lld x "
                        "%.2f for ranks",
                        (double)p->available_bytes / 0x1p30, (double)p->node_bytes / 0x1p30,
                        (double)p->theta_bytes / 0x1p30, (long long)p->ranks_per_node,
                        (double)(p->replica_bytes + p->engine_bytes) / 0x1p30);
    return SOW_OK;
}

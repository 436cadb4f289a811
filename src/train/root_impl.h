/* SPDX-License-Identifier: Apache-2.0 */
/* Root's side of an ES run, shared by es_root.c (the generations), es_star.c (messages) and es_measure.c (what is
 * written down). */
#ifndef SOWER_ROOT_IMPL_H
#define SOWER_ROOT_IMPL_H

#include "items_impl.h"
#include "train_impl.h"

#include "sower/drift.h"
#include "sower/folder.h"
#include "sower/ledger.h"
#include "sower/stats.h"

enum { MAX_UNITS_A_RANK = 8 };

/* What a node has said of a step. */
typedef struct node_word {
    int64_t generation; /* of the digest */
    sow_hash digest;
    int asked; /* rank that leads, -1: none yet */
} node_word;

typedef struct sow_root {
    sow_run *run;              /* borrowed */
    sow_queue *queue;          /* owned */
    sow_folder *folder;        /* borrowed */
    sow_ledger_writer *ledger; /* borrowed */
    sow_status status;
    node_word *nodes;        /* owned, [n_nodes] */
    report_message *reports; /* owned, [size]; by rank, the latest */
    sow_unit *units;         /* owned */
    int64_t units_capacity;
    double started_s, ticked_s, limit_s;
    /* A failure met inside a tick, told by root_turn. */
    sow_code failed;
    char failed_text[FAIL_TEXT];
    int64_t n_flat; /* generations in which all rewards were equal */
    sow_tau tau;
    sow_items *items; /* owned; NULL until the first evaluation */
    /* Of the generation at work, for its line of metrics. */
    struct {
        double eval_s, update_s;
        sow_tally tally, retention, center; /* of the task, of retention, of the unperturbed model */
        sow_traffic traffic;
        double began_s, delta2;
        int64_t n_units;
    } now;
    int64_t job_prompt_tokens[SOW_MAX_JOBS]; /* of all rows of a job; 0: not counted yet */
    sow_tally *tallies;                      /* owned, [2][population]: by member, of the task and of retention */
    double *rewards;                         /* owned, [population]: of the task, without penalty */
    sow_tally job_tallies[SOW_MAX_JOBS];     /* of the last evaluation; rows 0: not asked */
} sow_root;

/* es_star.c.  Not collective.  Deals with all messages that have come and hands out work; never waits. */
SOW_NODISCARD sow_code sow_root_turn(sow_root *root);
/* Installs the tick that takes turns while root computes. */
void sow_root_install_tick(sow_root *root);
/* Evaluates units until all are answered.  label and its numbers are for the progress line. */
SOW_NODISCARD sow_code sow_root_round(sow_root *root, int32_t round, int64_t n_units, const char *label);
/* The step of run->fitness on all nodes; *digest of the result. */
SOW_NODISCARD sow_code sow_root_step(sow_root *root, int64_t generation, sow_hash *digest, bool *has_spread);
/* A look at memory on all nodes before a checkpoint. */
SOW_NODISCARD sow_code sow_root_scrub(sow_root *root, int64_t generation);
/* Tells everyone to leave. */
void sow_root_stop(sow_root *root, sow_code code);

/* es_measure.c.  Evaluations after `step` that are due, drift if due, samples, and the step's line. */
SOW_NODISCARD sow_code sow_root_measure(sow_root *root, int64_t step, bool has_generation);

/* es_root.c.  From `done` generations (those are in the ledger) to options.run.steps. */
SOW_NODISCARD sow_code sow_es_lead(sow_root *root, const sow_ledger *ledger, int64_t loaded, int64_t measured);

/* es_root.c.  Mean reward of members' rows, without what was taken off for divergence. */
double sow_root_raw_reward(const sow_root *root, const sow_tally *tally);

/* A unit's result as a tally (without prompt tokens, which do not travel). */
sow_tally sow_root_tally(const sow_unit *unit, const sow_result *result);

/* Units of a job's first n rows for one group, n_slices of them. */
SOW_NODISCARD sow_code sow_root_add_units(sow_root *root, int64_t *n_units, int group, int job, int64_t n_rows,
                                          int64_t n_slices);

#endif

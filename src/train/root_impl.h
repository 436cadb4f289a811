/* SPDX-License-Identifier: Apache-2.0 */
/* Root's side of a run, shared by root.c (steps), star.c (messages), metrics.c (what is written down), and the methods'
 * own steps. */
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
    sow_hash moments;
    int asked;       /* rank that leads, -1: none yet */
    int32_t reduced; /* attempt whose gradient its leader has told of */
    sow_code code;   /* how that went */
} node_word;

typedef struct sow_root {
    sow_run *run;              /* borrowed */
    sow_queue *queue;          /* owned */
    sow_folder *folder;        /* borrowed */
    sow_ledger_writer *ledger; /* borrowed */
    sow_status status;
    node_word *nodes;        /* owned, [n_nodes] */
    report_message *reports; /* owned, [size]; by rank, the latest */
    report_message *spent;   /* owned, [size]; by rank, the sums of all phases */
    double *flops_put;       /* owned, [size]; those of a rank that lines of metrics have counted */
    sow_unit *units;         /* owned */
    int64_t units_capacity;
    double started_s, ticked_s, limit_s;
    int64_t first_step; /* steps that were done when this process began to make some of its own, */
    double first_s;     /* and when that was */
    int64_t redone;     /* step of the ledger that is run again; 0: none is */
    /* A failure met inside a tick, told by root_turn. */
    sow_code failed;
    char failed_text[FAIL_TEXT];
    int64_t measured_step;           /* of the evaluation at work */
    int64_t n_flat;                  /* generations in which all rewards were equal */
    int32_t n_round;                 /* rounds so far, where they are counted */
    bool is_exact_round, is_spoiled; /* a round that no unit may be given twice in; one was */
    struct sow_sgd_root *sgd;        /* owned; NULL for ES */
    sow_tau tau;
    sow_items *items;     /* owned; NULL until the first evaluation */
    sow_sequences *fixed; /* owned, [n_probes + 1]; of the base, for held-out rows and probes; NULL: none yet */
    /* Of the generation at work, for its line of metrics. */
    struct {
        double eval_s, update_s;
        sow_tally tally, retention, center; /* of the task, of retention, of the unperturbed model */
        double step_s, delta2;
        int64_t messages, bytes; /* through root */
        int64_t n_units;
    } now;
    int64_t job_prompt_tokens[SOW_MAX_JOBS]; /* of all rows of a job; 0: not counted yet */
    sow_tally *tallies;                      /* owned, [2][population]: by member, of the task and of retention */
    double *rewards;                         /* owned, [population]: of the task, without penalty */
    sow_tally job_tallies[SOW_MAX_JOBS];     /* of the last evaluation; rows 0: not asked */
} sow_root;

/* star.c.  Not collective.  Deals with all messages that have come and hands out work; never waits. */
SOW_NODISCARD sow_code sow_root_turn(sow_root *root);
/* Installs the tick that takes turns while root computes. */
void sow_root_install_tick(sow_root *root);
/* Evaluates units until all are answered.  label and its numbers are for the progress line. */
SOW_NODISCARD sow_code sow_root_round(sow_root *root, int32_t round, int64_t n_units, const char *label);
/* Waits a moment, dealing with messages. */
SOW_NODISCARD sow_code sow_root_rest(sow_root *root);
/* A rank of a node that is heard, to lead it; -1: none is. */
int sow_root_choose_leader(const sow_root *root, int node);
/* Waits for a node's digest of step `generation`, and compares it. */
SOW_NODISCARD sow_code sow_root_await_node(sow_root *root, int node, int64_t generation,
                                           const digest_message *expected);
/* The step of run->fitness on all nodes; *digest of the result. */
SOW_NODISCARD sow_code sow_root_step(sow_root *root, int64_t generation, sow_hash *digest, bool *has_spread);
/* A look at memory on all nodes before a checkpoint. */
SOW_NODISCARD sow_code sow_root_scrub(sow_root *root, int64_t generation);
/* Tells everyone to leave. */
void sow_root_stop(sow_root *root, sow_code code);

/* metrics.c.  Evaluations after `step` that are due, drift if due, samples, and the step's line. */
SOW_NODISCARD sow_code sow_root_measure(sow_root *root, int64_t step, bool has_generation);

/* root.c.  From `loaded` steps, over those of the ledger, to options.run.steps. */
SOW_NODISCARD sow_code sow_root_lead(sow_root *root, const sow_ledger *ledger, int64_t loaded, int64_t measured);
const float *sow_root_theta(const sow_root *root, int64_t step); /* theta after `step` */
/* Step `step` is in the ledger and took these tokens (-1: not known); one that the status knows of already is not
 * counted again. */
void sow_root_count(sow_root *root, int64_t step, int64_t tokens);

/* es_root.c, for the method's row in es_run.c. */
SOW_NODISCARD sow_code sow_es_step(sow_root *root, int64_t generation);
SOW_NODISCARD sow_code sow_es_redo(sow_root *root, const sow_ledger *ledger, int64_t generation);
SOW_NODISCARD sow_code sow_es_put(sow_root *root, sow_line *line, int64_t step);
void sow_es_tell(const sow_root *root, char *out, size_t cap);

/* sgd_run.c: moments of a step into checkpoints/, and from there (SOW_EBITS if they are not the ledger's). */
SOW_NODISCARD sow_code sow_sgd_save(sow_run *run, const sow_folder *folder, int64_t step);
SOW_NODISCARD sow_code sow_sgd_load(sow_run *run, const sow_folder *folder, const sow_ledger *ledger, int64_t step);

/* summary.c. */
void sow_root_take_report(sow_root *root, int rank, const report_message *report);
void sow_root_tell_start(const sow_root *root, const char *folder);
void sow_root_tell_end(const sow_root *root);
/* Seconds of a phase over those of a rank's reports that are of `step` (-1: all); n: how many these are. */
typedef struct phase_spread {
    double min, sum, max;
    int n;
} phase_spread;
phase_spread sow_phase_spread(const report_message *reports, int n_ranks, int64_t step, int phase);
/* metrics.c.  The phases of all ranks that have reported of `step`, as an object. */
void sow_root_put_phases(sow_root *root, sow_line *line, int64_t step);
/* Operations that ranks have reported since the line before: those of a late report count in a later line. */
double sow_root_take_flops(sow_root *root);
/* Ranks alive, and the messages and bytes of the step so far. */
void sow_root_put_traffic(const sow_root *root, sow_line *line);

/* measures.c.  KL to the base and spectra, if they are due after `step`. */
SOW_NODISCARD sow_code sow_root_measure_more(sow_root *root, int64_t step);
void sow_root_measures_fini(sow_root *root);

/* es_root.c.  Mean reward of members' rows, without what was taken off for divergence. */
double sow_root_raw_reward(const sow_root *root, const sow_tally *tally);
/* Prompts and completions of the generation at work, over all members. */
int64_t sow_es_tokens(const sow_root *root);

/* A unit's result as a tally (without prompt tokens, which do not travel). */
sow_tally sow_root_tally(const sow_unit *unit, const sow_result *result);

/* Units of a job's first n rows for one group, n_slices of them. */
SOW_NODISCARD sow_code sow_root_add_units(sow_root *root, int64_t *n_units, int group, int job, int64_t n_rows,
                                          int64_t n_slices);

#endif

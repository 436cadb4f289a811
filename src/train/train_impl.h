/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this layer share: the state of a rank in a run, and the messages between root and workers.
 *
 *     start    root reads, everyone receives                 inputs, train
 *     root     steps, checkpoints, limits, the end           root; a method's own step: es_root, sgd_root
 *     star     messages, rounds of units                     star; what is measured beside: measure
 *     work     a worker: does what root's messages say       work; a method's own units: es_run, sgd_run, sft, grpo
 *
 * Rounds of units rise.  In ES a round is a number both sides derive the weights from: 2 (g + 1) for the members of
 * generation g + 1, made from theta[g]; 2 g + 1 for evaluations of theta[g] itself.  With an optimizer rounds are
 * counted, and a unit's group is the number k of the theta that it needs. */
#ifndef SOWER_TRAIN_IMPL_H
#define SOWER_TRAIN_IMPL_H

#include "optimizer_impl.h"

#include "sower/evaluate.h"
#include "sower/hash.h"
#include "sower/la.h"
#include "sower/model.h"
#include "sower/options.h"
#include "sower/phase.h"
#include "sower/plan.h"
#include "sower/queue.h"
#include "sower/shaping.h"
#include "sower/theta.h"
#include "sower/window.h"
#include "sower/world.h"

#include <stdbool.h>

enum tag {
    TAG_UNIT,    /* root: sow_unit */
    TAG_RESULT,  /* worker: sow_result */
    TAG_FITNESS, /* root: fitness_message, a part of the fitnesses */
    TAG_LEAD,    /* root: lead_message: finish the step of your node */
    TAG_DIGEST,  /* leader: digest_message */
    TAG_REPORT,  /* worker: report_message, after the last unit of a generation */
    TAG_SCRUB,   /* root: scrub_message: look whether memory still holds what was written */
    TAG_FAIL,    /* worker: fail_message */
    TAG_STOP,    /* root: stop_message */
    TAG_PARCEL,  /* both: a part of a parcel: rollouts to root, groups to a worker */
    TAG_STATS,   /* worker: sow_sgd_stats, before the result of a unit */
    TAG_REDUCE,  /* root: reduce_message: make the gradient of your node */
    TAG_REDUCED, /* leader: reduced_message */
    TAG_APPLY,   /* root: apply_message: the step of AdamW */
    N_TAGS
};

enum { FITNESS_PART = 400, FAIL_TEXT = 1024 };

typedef struct fitness_message {
    int32_t generation, total, first, count;
    int32_t is_leader, pad;
    double fitness[FITNESS_PART]; /* `count` of them are sent */
} fitness_message;
_Static_assert(sizeof(fitness_message) <= SOW_MESSAGE_BYTES, "a part of the fitnesses fits one message");

typedef struct lead_message {
    int32_t generation; /* of the step; with an optimizer the number of theta */
} lead_message;

typedef struct digest_message {
    int64_t generation;
    sow_hash digest, moments; /* moments zero for ES */
} digest_message;

typedef struct report_message {
    int64_t generation;
    double phase_s[SOW_N_PHASES]; /* since the report before */
    double flops;                 /* of all steps so far */
} report_message;

typedef struct scrub_message {
    int32_t generation, part, n_parts;
} scrub_message;

/* Makes a node's gradient from the sums of `ranks`; leaders of all nodes add theirs together. */
typedef struct reduce_message {
    int32_t key, is_leader;
    sow_rank_set ranks, leaders;
} reduce_message;
_Static_assert(sizeof(reduce_message) <= SOW_MESSAGE_BYTES, "two sets of ranks fit one message");

typedef struct reduced_message {
    int32_t key, code; /* sow_code */
} reduced_message;

/* theta[t] from theta[t - 1] with the gradient of attempt `key`. */
typedef struct apply_message {
    int32_t t, key, is_leader, pad;
    double rate;
} apply_message;

typedef struct fail_message {
    int32_t code;
    char text[FAIL_TEXT];
} fail_message;

typedef struct stop_message {
    int32_t code; /* sow_code */
} stop_message;

/* Texts that root sends at the start. */
typedef struct sow_blocks {
    char *tokenizer; /* owned */
    size_t tokenizer_bytes;
    char *files[SOW_MAX_PROBES + 1]; /* owned; of the task and each probe, NULL: none */
    size_t file_bytes[SOW_MAX_PROBES + 1];
} sow_blocks;

struct sow_run;
struct sow_root;
struct sow_ledger;
struct sow_line;

/* A row of methods.def. */
typedef struct sow_method {
    const char *name, *doc, *word; /* "es", what it is, what a step is called: "generation" */
    /* Whether the names in its section are in their tables, whatever method runs; SOW_ECONF. */
    sow_code (*check)(const sow_conf *conf);
    /* Collective, after the base is loaded; then local, after the evaluator is there.  fini undoes both. */
    sow_code (*create)(struct sow_run *run);
    sow_code (*prepare)(struct sow_run *run);
    void (*fini)(struct sow_run *run);
    /* Rows of the task that a step draws; 0: all.  And the option that says so. */
    int64_t (*batch)(const sow_options *options);
    const char *batch_key;
    /* Root, before there is a folder: whether the training rows fit.  NULL: they are asked, and looked at as those of
     * every job are. */
    sow_code (*check_rows)(struct sow_run *run);
    /* The number of theta after `step`, and the group and the round of units that evaluate it. */
    int64_t (*index)(const struct sow_run *run, int64_t step);
    int (*center)(const struct sow_run *run, int64_t step);
    int32_t (*round)(struct sow_root *root, int64_t step);
    /* Answers a unit of any kind; *is_stale: theta has moved on. */
    sow_code (*unit)(struct sow_run *run, const sow_unit *unit, sow_result *out, bool *is_stale);
    /* Root: a step with its line of the ledger; one that the ledger holds, compared with it. */
    sow_code (*step)(struct sow_root *root, int64_t step);
    sow_code (*redo)(struct sow_root *root, const struct sow_ledger *ledger, int64_t step);
    /* Root: its keys of a step's line of metrics, and its words for the log. */
    sow_code (*put)(struct sow_root *root, struct sow_line *line, int64_t step);
    void (*tell)(const struct sow_root *root, char *out, size_t cap);
    /* What a step is made of, and what memory the method takes beside theta, replica and engine. */
    void (*plan)(const sow_plan_args *args, sow_plan *out);
} sow_method;
const sow_method *sow_method_find(const char *name); /* NULL if none */
const sow_method *sow_method_at(int64_t i);          /* NULL behind the last */

/* One rank of a run. */
typedef struct sow_run {
    sow_world *world;         /* borrowed; NULL in replay */
    sow_options *options;     /* owned */
    const sow_method *method; /* of the options */
    struct sow_sgd *sgd;      /* owned; NULL for ES */
    sow_blocks blocks;
    sow_layout *layout;       /* owned */
    sow_la *la;               /* owned */
    sow_theta *theta;         /* owned */
    sow_evaluator *evaluator; /* owned; has all jobs */
    sow_type type;
    const char *chat;    /* static; NULL: prompts as they are */
    char *chat_template; /* owned; root only, for the exported folder; may be NULL */
    const sow_shaping *shaping;
    sow_noise_plan plan;
    bool *is_selected;                                       /* owned, [n_tensors] */
    sow_window *mask_window;                                 /* owned; NULL without a world or a mask */
    uint32_t *mask_alone;                                    /* owned; without a world */
    const uint32_t *mask;                                    /* in one of them; NULL: all weights of these move */
    int64_t n_moving;                                        /* weights that move: d of the random-walk law */
    sow_tensor_noise *noise;                                 /* owned, [n_tensors], of the member at work */
    int train_job, held_out_job, probe_jobs[SOW_MAX_PROBES]; /* held_out_job -1: none */
    int64_t *rows;                                           /* owned: the batch of rows_generation: */
    int64_t n_rows, n_retention_rows;                        /* the task's, then those of retention_job */
    int64_t rows_capacity, rows_generation;
    int retention_job; /* -1: none */
    int64_t n_retention_tasks;
    double *fitness;     /* owned, [population], of the step at work */
    float *coefficients; /* owned, [population] */
    double flops_apart;  /* operations of evaluations so far */
    double flops_then;   /* all operations when this rank began to evaluate */
    bool is_measuring;
} sow_run;

/* inputs.c.  Without a world every call is local and this process is root.
 * Root: names, model, tokenizer and files of run->options, which come from conf.  *model is the caller's. */
SOW_NODISCARD sow_code sow_run_read(sow_run *run, const sow_conf *conf, sow_model **model);
/* Collective.  Options, shape, texts from root (which has `model`) to all; then layout, chat format and la. */
SOW_NODISCARD sow_code sow_run_share(sow_run *run, const sow_model *model);
/* Collective.  Nodes, theta with the base as generation 0, storage type. */
SOW_NODISCARD sow_code sow_run_load(sow_run *run, sow_model *model);
/* es_run.c.  Adds a task, which becomes the evaluator's whatever happens; max_new 0: its own. */
SOW_NODISCARD sow_code sow_run_add_job(sow_run *run, sow_task *task, int64_t max_new, int *job);
/* n distinct numbers below `all`, each set equally likely. */
void sow_draw_distinct(sow_place place, int64_t all, int64_t n, int64_t *out);

/* Rows of a generation: es.batch, or all. */
int64_t sow_run_batch(const sow_run *run);

/* es_retention.c.  es.retention_tasks: names are known (root); its jobs; how many of a generation's rows are its; and
 * which. */
SOW_NODISCARD sow_code sow_retention_check(const sow_conf *conf);
SOW_NODISCARD sow_code sow_retention_open(sow_run *run);
int64_t sow_retention_rows(const sow_run *run);
void sow_retention_draw(const sow_run *run, int64_t generation, int64_t n, int64_t *out);

/* es_mask.c.  Collective, after the base is there.  Which weights move: is_selected, mask, n_moving. */
SOW_NODISCARD sow_code sow_run_select(sow_run *run);
/* Bytes of the mask on a node. */
size_t sow_run_mask_bytes(const sow_options *options, const sow_layout *layout);
/* Whether this rank is the first of its node. */
bool sow_run_leads(const sow_run *run);
/* After sow_run_prepare: the ledger's header as this run would write it, to be freed; and the digest of the base. */
SOW_NODISCARD sow_code sow_run_header(const sow_run *run, sow_hash *base_digest, char **out);
/* Root: the newest checkpoint up to max_step that agrees with the ledger, into theta and moments; *loaded its step,
 * untouched if there is none. */
struct sow_folder;
/* Root: a checkpoint's weights (and moments) into memory, if they are those of the ledger; else SOW_EBITS. */
SOW_NODISCARD sow_code sow_run_load_step(sow_run *run, const struct sow_folder *folder, const struct sow_ledger *ledger,
                                         const char *path, int64_t step);
SOW_NODISCARD sow_code sow_run_load_checkpoint(sow_run *run, const struct sow_folder *folder,
                                               const struct sow_ledger *ledger, int64_t max_step, int64_t *loaded);

/* Sizes, tasks, evaluator, step data: everything after options, layout and blocks are there.  Not collective. */
SOW_NODISCARD sow_code sow_run_prepare(sow_run *run);
void sow_run_fini(sow_run *run);

/* The weights of theta after `step` into the evaluator's replica, for a look at them; theta does not move meanwhile. */
SOW_NODISCARD sow_code sow_run_center(sow_run *run, int64_t step);
/* Evaluates rows of a job with the weights that the evaluator holds; kl_beta: of es.kl_beta, 0: rewards as they are. */
SOW_NODISCARD sow_code sow_run_answer(sow_run *run, const sow_unit *unit, const int64_t *rows, double kl_beta,
                                      sow_result *out);
/* Rows `first` and on of a job, in run->rows. */
SOW_NODISCARD sow_code sow_run_rows(sow_run *run, const sow_unit *unit, const int64_t **rows);

/* The rows of a generation's batch into run->rows. */
SOW_NODISCARD sow_code sow_run_draw(sow_run *run, int64_t generation);
/* Answers a unit by the run's method; *is_stale: theta has moved on, the result is no longer wanted. */
SOW_NODISCARD sow_code sow_run_unit(sow_run *run, const sow_unit *unit, sow_result *out, bool *is_stale);
/* The step of a generation from run->fitness; *has_spread false: theta stays. */
SOW_NODISCARD sow_code sow_run_step(sow_run *run, int64_t generation, sow_step *out, bool *has_spread);
/* What root is told of a rank's time since the last report. */
/* Whether this rank evaluates or measures from now on: then time is of phase `measure`, and operations of no step. */
void sow_run_measure(sow_run *run, bool is_measuring);
void sow_run_report(sow_run *run, int64_t generation, report_message *out);

/* For a node's leader after its sow_theta_update: completes the step, checks one granule, makes the digest.  *is_late:
 * theta has moved on meanwhile (this rank was away), the digest means nothing. */
SOW_NODISCARD sow_code sow_run_finish_node(sow_run *run, const sow_step *step, digest_message *out, bool *is_late);

/* A worker's life until root says stop: its code. */
SOW_NODISCARD sow_code sow_run_work(sow_run *run);

/* "l1" and so on as an anchor. */
sow_anchor sow_run_anchor(const char *name);

/* train.c.  Refuses the name that a key gives if it is in no table of names. */
enum { SOW_MAX_NAMES = 64 };
SOW_NODISCARD sow_code sow_train_check_name(const sow_conf *conf, const char *key, const char *const *names, int64_t n,
                                            bool is_known);

/* plan.c.  Operations of a forward pass over prompts of `rows`, and over `samples` completions behind them. */
double sow_plan_forward_flops(const sow_plan_args *args, int64_t rows, int64_t samples);

/* Bytes that root needs for KL and spectra. */
int64_t sow_measure_bytes(const sow_options *options, const sow_layout *layout, sow_type type, int64_t tokens_per_row);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The commands: one row of commands.def and one file each.  Only this layer prints results and ends the program. */
#ifndef SOWER_APP_IMPL_H
#define SOWER_APP_IMPL_H

#include "sower/engine.h"
#include "sower/error.h"
#include "sower/json.h"
#include "sower/model.h"
#include "sower/options.h"
#include "sower/replica.h"
#include "sower/tokenizer.h"
#include "sower/words.h"
#include "sower/world.h"

#include <stdbool.h>
#include <stdio.h>

enum { SOW_MAX_SETS = 64 };

/* One option of a command line: --name VALUE (or a switch), its letter or 0, what it means. */
typedef struct sow_flag {
    const char *name;
    char letter;
    const char *value; /* what stands for the value in --help; NULL: a switch */
    const char *doc;
    const char **text; /* set to the value; NULL for a switch */
    bool *is_on;       /* set to true; may be NULL */
} sow_flag;

/* What every command knows. */
typedef struct sow_app {
    sow_world *world; /* of a parallel command, else NULL */
    bool is_json;     /* --json, or stdout is no terminal and --table was not given */
    int n_sets;
    const char *sets[SOW_MAX_SETS]; /* --set key=value, in order */
    int n_words;
    char **words; /* what is left of the command line */
} sow_app;

typedef struct sow_command {
    const char *name, *doc;
    const char *usage;    /* "CONF [options]" */
    const char *examples; /* lines for --help */
    bool is_parallel;     /* runs under mpirun with more than one rank */
    bool has_sets;        /* reads options: --set works */
    int min_words, max_words;
    const sow_flag *flags; /* NULL-terminated by name; may be NULL */
    sow_code (*run)(sow_app *app);
} sow_command;

int sow_command_count(void);
const sow_command *sow_command_at(int index);

/* Parses a command's line into app, its flags' variables and app->words.  *is_help: --help was asked for. */
SOW_NODISCARD sow_code sow_args_parse(sow_app *app, const sow_command *command, int argc, char **argv, bool *is_help);
/* Prints `sower COMMAND --help`. */
void sow_args_help(FILE *to, const sow_command *command);
/* A flag's text as a whole number in [low, high]; NULL leaves *out. */
SOW_NODISCARD sow_code sow_args_int(const char *flag, const char *text, int64_t low, int64_t high, int64_t *out);
SOW_NODISCARD sow_code sow_args_real(const char *flag, const char *text, double low, double high, double *out);

/* A configuration from a file (may be NULL) and the --set of the command line. */
SOW_NODISCARD sow_code sow_app_conf(const sow_app *app, const char *file, sow_conf **out);

/* Says in one line which keys do nothing since another method runs. */
void sow_app_warn_stray(const sow_conf *conf);

/* That of a run's folder: RUN/config.yaml and --set.  `file` is room for its name. */
SOW_NODISCARD sow_code sow_app_run_conf(const sow_app *app, const char *folder, char file[SOW_TEXT], sow_conf **out);
/* The command's options as they are after --set. */
SOW_NODISCARD sow_code sow_app_options(const sow_app *app, sow_options *out);

/* A line of JSON to stdout; SOW_EIO if it cannot be written. */
SOW_NODISCARD sow_code sow_app_print(sow_line *line);
/* Text to stdout. */
SOW_NODISCARD sow_code sow_app_say(const char *fmt, ...) SOW_PRINTF(1, 2);
/* Bytes to stdout, and a newline. */
SOW_NODISCARD sow_code sow_app_put(const char *text, size_t bytes);

/* A run's table (status.c): text, or with --json one object. */
SOW_NODISCARD sow_code sow_app_table(const sow_app *app, const char *folder);

/* ---- Names (app_names.c) ---- */

struct sow_task_kind;
/* A task of the table; SOW_EARG with the nearest. */
SOW_NODISCARD sow_code sow_app_task(const char *name, const struct sow_task_kind **out);
/* f32, fp16, bf16; SOW_EARG names the flag. */
SOW_NODISCARD sow_code sow_app_type(const char *flag, const char *name, sow_type *out);

/* ---- Rows of input (app_input.c) ---- */

typedef struct sow_input_row {
    sow_json *json; /* owned; an object */
} sow_input_row;

/* JSON lines, all read and all objects: a wrong one is told before anything is printed. */
typedef struct sow_input {
    const char *name; /* of the file, for messages; borrowed */
    int64_t n, capacity;
    sow_input_row *rows; /* owned */
} sow_input;

/* path "-" or NULL: stdin.  SOW_EFORMAT "FILE:LINE: ...". */
SOW_NODISCARD sow_code sow_input_load(const char *path, sow_input *out);
void sow_input_fini(sow_input *input);
/* "FILE:LINE" of a row. */
void sow_input_where(const sow_input *input, int64_t row, char out[SOW_TEXT]);

/* Starts a row of output with the `id` of its row of input, as given. */
void sow_input_begin(sow_line *line, const sow_json *row);
/* A text of a row; SOW_EFORMAT names `where` and the key. */
SOW_NODISCARD sow_code sow_input_text(const sow_json *row, const char *key, const char *where, const char **out,
                                      size_t *bytes);
/* Appends a list of ids of a row, each 0 .. vocab_size - 1. */
SOW_NODISCARD sow_code sow_input_ids(const sow_json *row, const char *key, const char *where, int64_t vocab_size,
                                     sow_ids *out);
/* "key": [ids] */
void sow_input_put_ids(sow_line *line, const char *key, const int32_t *ids, int64_t n);

/* ---- A model ready to compute, in one process (app_model.c) ---- */

typedef struct sow_loaded {
    sow_model *model;         /* owned */
    const sow_layout *layout; /* of the model */
    sow_tokenizer *tokenizer; /* owned; NULL if the model has none */
    const char *chat;         /* format, NULL: none is known; static */
    sow_la *la;               /* owned */
    sow_type type;
    sow_replica *replica; /* owned */
    sow_engine *engine;   /* owned */
} sow_loaded;

/* Storage, backend, threads and batch are those of the options.  Start with {0}; fini in any case. */
SOW_NODISCARD sow_code sow_loaded_open(const char *path, const sow_options *options, sow_loaded *out);
void sow_loaded_fini(sow_loaded *loaded);
/* SOW_EFORMAT unless the model has a tokenizer. */
SOW_NODISCARD sow_code sow_loaded_need_tokenizer(const sow_loaded *loaded, const char *path);
/* The token that stands before an empty text: BOS, else EOS (as in lm-evaluation-harness); SOW_EFORMAT without both. */
SOW_NODISCARD sow_code sow_loaded_start_token(const sow_loaded *loaded, const char *where, int32_t *out);
/* The model's weights, float32; free with SOW_FREE. */
SOW_NODISCARD sow_code sow_app_weights(sow_model *model, float **out);
/* A tokenizer of a model, or of a bare tokenizer.json (path of a file whose name ends so). */
SOW_NODISCARD sow_code sow_app_tokenizer(const char *path, sow_tokenizer **out);

/* ---- A model on all ranks of a job (app_shared.c) ---- */

struct sow_window;

/* Root reads, everyone receives; the weights lie once per node. */
typedef struct sow_shared {
    sow_world *world; /* borrowed */
    sow_options options;
    sow_model *model;   /* owned; root only */
    sow_layout *layout; /* owned */
    char *tokenizer;    /* owned */
    size_t tokenizer_bytes;
    char *file; /* owned; of task.file, NULL: none */
    size_t file_bytes;
    char chat[32]; /* format of generate.chat; "": prompts as they are */
    sow_la *la;    /* owned */
    sow_type type;
    struct sow_window *window; /* owned */
    float *theta;              /* in the window */
} sow_shared;

/* Collective.  options: root only.  Start with {0}; fini in any case. */
SOW_NODISCARD sow_code sow_shared_open(sow_world *world, const char *path, const sow_options *options, sow_shared *out);
void sow_shared_fini(sow_shared *shared);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The commands: one row of commands.def and one file each.  Only this layer prints results and ends the program. */
#ifndef SOWER_APP_IMPL_H
#define SOWER_APP_IMPL_H

#include <stdbool.h>
#include <stdio.h>

#include "sower/error.h"
#include "sower/json.h"
#include "sower/options.h"
#include "sower/world.h"

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
    bool is_json;     /* --json, or stdout is no terminal */
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

/* Parses a command's line into app, its flags' variables and app->words.  *is_help: --help was asked for (and printed). */
SOW_NODISCARD sow_code sow_args_parse(sow_app *app, const sow_command *command, int argc, char **argv, bool *is_help);
/* Prints `sower COMMAND --help`. */
void sow_args_help(FILE *to, const sow_command *command);
/* A flag's text as a whole number in [low, high]; NULL leaves *out. */
SOW_NODISCARD sow_code sow_args_int(const char *flag, const char *text, int64_t low, int64_t high, int64_t *out);
SOW_NODISCARD sow_code sow_args_real(const char *flag, const char *text, double low, double high, double *out);

/* A configuration from a file (may be NULL) and the --set of the command line. */
SOW_NODISCARD sow_code sow_app_conf(const sow_app *app, const char *file, sow_conf **out);

/* A line of JSON to stdout; SOW_EIO if it cannot be written. */
SOW_NODISCARD sow_code sow_app_print(sow_line *line);
/* Text to stdout. */
SOW_NODISCARD sow_code sow_app_say(const char *fmt, ...) SOW_PRINTF(1, 2);

#endif

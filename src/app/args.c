/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines by getopt_long: --set, --json and --help for every command, and each command's own table of flags. */
#include "app_impl.h"

#include "sower/file.h"
#include "sower/log.h"
#include "sower/words.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_FLAGS = 24, FIRST = 256, SET = FIRST + MAX_FLAGS, JSON, TABLE, HELP };

static int count_flags(const sow_command *command)
{
    int n = 0;
    while (command->flags != NULL && command->flags[n].name != NULL)
        n++;
    SOW_ASSERT(n <= MAX_FLAGS);
    return n;
}

void sow_args_help(FILE *to, const sow_command *command)
{
    (void)fprintf(to, "sower %s: %s\n\nusage: %ssower %s %s\n\n", command->name, command->doc,
                  command->is_parallel ? "[mpirun -n R] " : "", command->name, command->usage);
    for (int i = 0; i < count_flags(command); i++) {
        const sow_flag *f = &command->flags[i];
        char left[64], letter[8] = "    ";
        if (f->letter != 0)
            (void)snprintf(letter, sizeof letter, "-%c, ", f->letter);
        (void)snprintf(left, sizeof left, "%s--%s%s%s", letter, f->name, f->value != NULL ? " " : "",
                       f->value != NULL ? f->value : "");
        (void)fprintf(to, "  %-30s %s\n", left, f->doc);
    }
    if (command->has_sets)
        (void)fprintf(to, "  %-30s %s\n", "    --set KEY=VALUE",
                      "sets an option (`sower config` lists them); may be repeated");
    (void)fprintf(to, "  %-30s %s\n", "    --json", "JSON lines on stdout (the default when stdout is no terminal)");
    (void)fprintf(to, "  %-30s %s\n", "    --table", "tables for people (the default on a terminal)");
    (void)fprintf(to, "  %-30s %s\n", "-h, --help", "this text");
    if (command->examples != NULL)
        (void)fprintf(to, "\nexamples:\n%s", command->examples);
}

/* The table of getopt_long, and its letters. */
static int fill(const sow_command *command, struct option *options, char *letters)
{
    int n = count_flags(command), at = 0;
    letters[at++] = ':'; /* a missing value is told apart from an unknown option */
    letters[at++] = 'h';
    for (int i = 0; i < n; i++) {
        const sow_flag *f = &command->flags[i];
        options[i] = (struct option){f->name, f->value != NULL ? required_argument : no_argument, NULL, FIRST + i};
        if (f->letter != 0) {
            letters[at++] = f->letter;
            if (f->value != NULL)
                letters[at++] = ':';
        }
    }
    letters[at] = '\0';
    if (command->has_sets)
        options[n++] = (struct option){"set", required_argument, NULL, SET};
    options[n++] = (struct option){"json", no_argument, NULL, JSON};
    options[n++] = (struct option){"table", no_argument, NULL, TABLE};
    options[n++] = (struct option){"help", no_argument, NULL, HELP};
    options[n] = (struct option){0};
    return n;
}

static const sow_flag *find_flag(const sow_command *command, int code)
{
    for (int i = 0; i < count_flags(command); i++)
        if (code == FIRST + i || code == command->flags[i].letter)
            return &command->flags[i];
    return NULL;
}

static sow_code refuse(const sow_command *command, const struct option *options, int n, const char *word)
{
    const char *names[MAX_FLAGS + 5];
    const char *bare = word;
    while (*bare == '-')
        bare++;
    for (int i = 0; i < n; i++)
        names[i] = options[i].name;
    const char *near = sow_words_nearest(bare, names, n);
    return SOW_FAIL(SOW_EARG, "%s: is no option of `sower %s`%s%s; see sower %s --help", word, command->name,
                    near != NULL ? "; did you mean --" : "", near != NULL ? near : "", command->name);
}

static sow_code take_flag(sow_app *app, const sow_command *command, int code)
{
    if (code == SET) {
        if (app->n_sets == SOW_MAX_SETS)
            return SOW_FAIL(SOW_EARG, "--set: more than %d", SOW_MAX_SETS);
        app->sets[app->n_sets++] = optarg;
    } else if (code == JSON || code == TABLE) {
        app->is_json = code == JSON;
    } else {
        const sow_flag *flag = find_flag(command, code);
        if (flag->value != NULL && optarg[0] == '\0' && strcmp(flag->value, "TEXT") != 0)
            return SOW_FAIL(SOW_EARG, "--%s: is empty, expected %s", flag->name, flag->value);
        if (flag->text != NULL)
            *flag->text = optarg;
        if (flag->is_on != NULL)
            *flag->is_on = true;
    }
    return SOW_OK;
}

/* Whether people look at stdout.  Open MPI gives its ranks a terminal of its own, whatever mpirun writes to: then it is
 * the parent's that counts. */
static bool is_terminal(void)
{
    char path[64], target[64] = "";
    if (isatty(STDOUT_FILENO) != 1)
        return false;
    if (getenv("OMPI_COMM_WORLD_RANK") == NULL)
        return true;
    (void)snprintf(path, sizeof path, "/proc/%ld/fd/1", (long)getppid());
    ssize_t n = readlink(path, target, sizeof target - 1);
    return n > 0 && (strncmp(target, "/dev/pts/", 9) == 0 || strncmp(target, "/dev/tty", 8) == 0);
}

sow_code sow_args_parse(sow_app *app, const sow_command *command, int argc, char **argv, bool *is_help)
{
    struct option options[MAX_FLAGS + 5];
    char letters[2 * MAX_FLAGS + 3];
    int n = fill(command, options, letters), code;
    app->is_json = !is_terminal();
    *is_help = false;
    opterr = 0;
    optind = 1;
    while ((code = getopt_long(argc, argv, letters, options, NULL)) != -1) {
        if (code == HELP || code == 'h') {
            *is_help = true;
            return SOW_OK;
        }
        if (code == ':')
            return SOW_FAIL(SOW_EARG, "%s: lacks its value; see sower %s --help", argv[optind - 1], command->name);
        if (code == '?')
            return refuse(command, options, n, argv[optind - 1]);
        SOW_TRY(take_flag(app, command, code));
    }
    app->words = argv + optind;
    app->n_words = argc - optind;
    if (app->n_words < command->min_words || app->n_words > command->max_words)
        return SOW_FAIL(SOW_EARG, "sower %s: %d arguments, expected: sower %s %s; see sower %s --help", command->name,
                        app->n_words, command->name, command->usage, command->name);
    return SOW_OK;
}

sow_code sow_args_int(const char *flag, const char *text, int64_t low, int64_t high, int64_t *out)
{
    int64_t value = 0;
    if (text == NULL)
        return SOW_OK;
    if (!sow_words_to_int(text, &value) || value < low || value > high)
        return SOW_FAIL(SOW_EARG, "--%s: '%s' is not right, expected a whole number from %lld to %lld", flag, text,
                        (long long)low, (long long)high);
    *out = value;
    return SOW_OK;
}

sow_code sow_args_real(const char *flag, const char *text, double low, double high, double *out)
{
    double value = 0;
    if (text == NULL)
        return SOW_OK;
    if (!sow_words_to_real(text, &value) || value < low || value > high)
        return SOW_FAIL(SOW_EARG, "--%s: '%s' is not right, expected a number from %g to %g", flag, text, low, high);
    *out = value;
    return SOW_OK;
}

sow_code sow_app_conf(const sow_app *app, const char *file, sow_conf **out)
{
    sow_conf *conf = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(sow_conf_create(&conf));
    if (file != NULL)
        SOW_TRY_OR(rc, sow_conf_load(conf, file));
    for (int i = 0; i < app->n_sets; i++)
        SOW_TRY_OR(rc, sow_conf_set(conf, app->sets[i]));
    SOW_TRY_OR(rc, sow_conf_finish(conf, NULL));
done:
    if (rc != SOW_OK)
        sow_conf_destroy(&conf);
    else
        *out = conf;
    return rc;
}

void sow_app_warn_stray(const sow_conf *conf)
{
    int64_t n = 0;
    char more[48] = "";
    const char *key = sow_conf_stray(conf, &n);
    if (key == NULL)
        return;
    if (n > 1)
        (void)snprintf(more, sizeof more, " and %lld more key%s", (long long)n - 1, n > 2 ? "s" : "");
    sow_log(SOW_LOG_WARN, "%s%s: given, but without effect: method %s runs", key, more, sow_conf_options(conf)->method);
}

sow_code sow_app_run_conf(const sow_app *app, const char *folder, char file[SOW_TEXT], sow_conf **out)
{
    SOW_TRY(sow_file_join(folder, "config.yaml", file, SOW_TEXT));
    if (!sow_file_exists(file))
        return SOW_FAIL(SOW_EIO, "%s: is not there, expected the folder of a run", file);
    return sow_app_conf(app, file, out);
}

sow_code sow_app_options(const sow_app *app, sow_options *out)
{
    sow_conf *conf = NULL;
    SOW_TRY(sow_app_conf(app, NULL, &conf));
    *out = *sow_conf_options(conf);
    sow_conf_destroy(&conf);
    return SOW_OK;
}

static sow_code written(int n)
{
    return n < 0 || ferror(stdout) != 0 ? SOW_FAIL(SOW_EIO, "stdout: cannot write") : SOW_OK;
}

sow_code sow_app_print(sow_line *line)
{
    const char *text = NULL;
    SOW_TRY(sow_line_text(line, &text));
    return written(fprintf(stdout, "%s\n", text));
}

sow_code sow_app_say(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vfprintf(stdout, fmt, args);
    va_end(args);
    return written(n);
}

sow_code sow_app_put(const char *text, size_t bytes)
{
    bool is_whole = fwrite(text, 1, bytes, stdout) == bytes && putchar('\n') == '\n';
    return written(is_whole ? 0 : -1);
}

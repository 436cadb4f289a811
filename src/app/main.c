/* SPDX-License-Identifier: Apache-2.0 */
/* sower COMMAND ...: finds the command, runs it, says in one line what went wrong, and ends with 0, 1, 2 or 75. */
#include "app_impl.h"

#include "sower/build.h"
#include "sower/la.h"
#include "sower/log.h"
#include "sower/words.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COMMANDS = 64 };

static void print_help(FILE *to)
{
    (void)fprintf(
        to,
        "sower %s: fine-tunes language models by Evolution Strategies, GRPO or supervised over MPI ranks, with the\n"
        "same bits at any number of ranks, and measures what the model forgets.\n\n"
        "usage: [mpirun -n R] sower COMMAND ...\n\n",
        sow_build_version());
    for (int i = 0; i < sow_command_count(); i++)
        (void)fprintf(to, "  %-10s %s\n", sow_command_at(i)->name, sow_command_at(i)->doc);
    (void)fprintf(to, "\nsower COMMAND --help tells more; sower --version tells how it was built.\n"
                      "exit status: 0 done, 1 failed, 2 wrong usage or configuration, 75 stopped in good order (go on "
                      "with --resume)\n");
}

static void print_version(FILE *to)
{
    const char *remedy = NULL;
    (void)fprintf(to, "sower %s (%s), %s, %s\n", sow_build_version(), sow_build_commit(), sow_build_compiler(),
                  sow_build_type());
    (void)fprintf(to, "MPI:    %s\nBLAS:   %s\nCPU:    %s\nkernels:", sow_world_library(), sow_la_blas_name(&remedy),
                  sow_la_cpu_name());
    for (int64_t i = 0; i < sow_kernels_count(); i++)
        (void)fprintf(to, " %s", sow_kernels_at(i)->name);
    (void)fprintf(to, "\n");
    if (remedy != NULL)
        (void)fprintf(to, "note:   %s\n", remedy);
}

static sow_code find_command(const char *name, const sow_command **out)
{
    const char *names[MAX_COMMANDS];
    int n = sow_command_count();
    for (int i = 0; i < n; i++) {
        names[i] = sow_command_at(i)->name;
        if (strcmp(names[i], name) == 0) {
            *out = sow_command_at(i);
            return SOW_OK;
        }
    }
    const char *near = sow_words_nearest(name, names, n);
    return SOW_FAIL(SOW_EARG, "%s: is no command%s%s; see sower --help", name, near != NULL ? ", did you mean " : "",
                    near != NULL ? near : "");
}

/* Ranks of this job as the launcher says, without MPI; 1 if nothing says more. */
static int64_t launched_ranks(int *rank)
{
    static const char *const sizes[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};
    static const char *const ranks[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const char *size = getenv(sizes[i]), *mine = getenv(ranks[i]);
        int64_t n = 0, r = 0;
        if (size != NULL && mine != NULL && sow_words_to_int(size, &n) && sow_words_to_int(mine, &r)) {
            *rank = (int)r;
            return n;
        }
    }
    return 1;
}

/* One line, from one rank. */
static void tell(sow_code rc, int rank)
{
    if (rc == SOW_OK || rank != 0)
        return;
    sow_log_progress(0, "%s", "");
    sow_log(rc == SOW_ESTOP ? SOW_LOG_INFO : SOW_LOG_ERROR, "%s", sow_error_text());
    sow_log(SOW_LOG_DEBUG, "%s", sow_error_where());
}

/* What stands in the buffer of stdout, and whether all before it went out. */
static sow_code finish_stdout(void)
{
    return fflush(stdout) != 0 || ferror(stdout) != 0 ? SOW_FAIL(SOW_EIO, "stdout: cannot write") : SOW_OK;
}

/* A closed stdin, stdout or stderr would give its number to the next file that is opened.  The number is taken by
 * something that fails when it is used, as the closed one would. */
static void hold_standard_files(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

static int run_alone(const sow_command *command, sow_app *app)
{
    int rank = 0;
    int64_t n = launched_ranks(&rank);
    sow_code rc =
        n > 1 ? SOW_FAIL(SOW_EARG, "sower %s: runs alone, expected 1 rank and not %lld", command->name, (long long)n)
              : command->run(app);
    if (rc == SOW_OK)
        rc = finish_stdout();
    tell(rc, rank);
    return sow_code_exit(rc);
}

static int run_parallel(const sow_command *command, sow_app *app, int *argc, char ***argv)
{
    sow_code rc = sow_world_start(argc, argv, &app->world);
    if (rc != SOW_OK) {
        tell(rc, 0);
        return sow_code_exit(rc);
    }
    int rank = sow_world_rank(app->world);
    if (sow_world_size(app->world) > 1) {
        char name[32];
        (void)snprintf(name, sizeof name, "rank %d", rank);
        sow_log_name(name);
    }
    rc = command->run(app);
    if (rc == SOW_OK)
        rc = finish_stdout();
    tell(rc, rank);
    int status = sow_world_exit_status(app->world, rc);
    sow_world_stop(&app->world, status);
    return status;
}

/* After help or version. */
static int end_text(void)
{
    sow_code rc = finish_stdout();
    tell(rc, 0);
    return sow_code_exit(rc);
}

static char help_option[] = "--help";

static bool is_help_word(const char *word)
{
    return strcmp(word, "help") == 0 || strcmp(word, help_option) == 0 || strcmp(word, "-h") == 0;
}

int main(int argc, char **argv)
{
    const sow_command *command = NULL;
    sow_app app = {0};
    bool is_help = false;
    int rank = 0;
    int64_t n_ranks = launched_ranks(&rank);
    hold_standard_files();
    if (argc < 2 || is_help_word(argv[1])) {
        if (argc < 3) {
            print_help(argc < 2 ? stderr : stdout);
            return argc < 2 ? 2 : end_text();
        }
        argv[1] = argv[2]; /* sower help COMMAND is sower COMMAND --help */
        argv[2] = help_option;
    }
    if (strcmp(argv[1], "--version") == 0) {
        print_version(stdout);
        return end_text();
    }
    sow_code rc = find_command(argv[1], &command);
    if (rc == SOW_OK)
        rc = sow_args_parse(&app, command, argc - 1, argv + 1, &is_help);
    if (rc == SOW_OK && is_help) {
        if (rank == 0)
            sow_args_help(stdout, command);
        return end_text();
    }
    if (rc != SOW_OK || command == NULL) {
        tell(rc, n_ranks > 1 ? rank : 0);
        return sow_code_exit(rc);
    }
    return command->is_parallel ? run_parallel(command, &app, &argc, &argv) : run_alone(command, &app);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Start of the job's ranks, and who and where they are. */
#include "par_impl.h"

#include "sower/alloc.h"
#include "sower/clock.h"
#include "sower/log.h"
#include "sower/phase.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const double start_deadline_s = 60; /* until sow_world_cut says otherwise */

/* What each rank tells the others of itself. */
typedef struct card {
    char host[SOW_HOST_BYTES];
    int64_t pid, started, space;
    int32_t host_first, host_index;
} card;

sow_code sow_par_mpi_failed(int mpi_rc, const char *call, const char *file, int line)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    (void)MPI_Error_string(mpi_rc, text, &length);
    return sow_error_set(SOW_ECOMM, file, line, "%.*s: %s", (int)strcspn(call, "("), call, text);
}

static sow_code start_mpi(sow_world *w, int *argc, char ***argv)
{
    int is_over = 0, is_begun = 0, level = 0;
    SOW_TRY_MPI(MPI_Finalized(&is_over));
    SOW_TRY_MPI(MPI_Initialized(&is_begun));
    if (is_over || is_begun)
        return SOW_FAIL(SOW_EARG, "MPI was started before in this process, expected one start");
    sow_par_signals_install();
    SOW_TRY_BLOCKING(NULL, "MPI_Init_thread", MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &level));
    sow_par_signals_install();
    SOW_TRY_BLOCKING(NULL, "MPI_Comm_dup", MPI_Comm_dup(MPI_COMM_WORLD, &w->comm));
    SOW_TRY_MPI(MPI_Comm_set_errhandler(w->comm, MPI_ERRORS_RETURN));
    SOW_TRY_MPI(MPI_Comm_rank(w->comm, &w->rank));
    SOW_TRY_MPI(MPI_Comm_size(w->comm, &w->size));
    if (w->size == 1)
        return SOW_OK;
    SOW_TRY_BLOCKING(NULL, "MPI_Comm_dup", MPI_Comm_dup(w->comm, &w->ending));
    SOW_TRY_BLOCKING(NULL, "MPI_Comm_split_type",
                     MPI_Comm_split_type(w->comm, MPI_COMM_TYPE_SHARED, w->rank, MPI_INFO_NULL, &w->host));
    return SOW_OK;
}

static sow_code write_card(sow_world *w, card *out)
{
    if (gethostname(out->host, sizeof out->host - 1) != 0)
        (void)snprintf(out->host, sizeof out->host, "unknown");
    out->pid = (int64_t)getpid();
    out->started = sow_par_process_started(out->pid);
    out->space = sow_par_process_space();
    out->host_first = (int32_t)w->rank;
    if (w->host == MPI_COMM_NULL)
        return SOW_OK;
    int index = 0, first = w->rank;
    SOW_TRY_MPI(MPI_Comm_rank(w->host, &index));
    SOW_TRY_MPI(MPI_Iallreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, w->host, &w->pending));
    SOW_TRY(sow_par_wait(w, "the start", 0));
    out->host_index = (int32_t)index;
    out->host_first = (int32_t)first;
    return SOW_OK;
}

static sow_code meet_peers(sow_world *w)
{
    card *cards = NULL, mine = {.host = ""};
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, SOW_ALLOC(&cards, w->size));
    SOW_TRY_OR(rc, write_card(w, &mine));
    SOW_TRY_OR(rc, sow_par_gather_all(w, &mine, sizeof mine, cards));
    for (int r = 0; r < w->size; r++) {
        sow_peer *p = &w->peers[r];
        const card *c = &cards[r];
        memcpy(p->host, c->host, sizeof p->host);
        p->host_first = c->host_first;
        p->host_index = c->host_index;
        p->is_here = c->host_first == mine.host_first;
        w->n_here += p->is_here;
        bool is_visible = p->is_here && c->space == mine.space;
        p->pid = is_visible ? c->pid : 0;
        p->started = is_visible ? c->started : 0;
    }
done:
    SOW_FREE(&cards);
    return rc;
}

/* Shows life from the first tick on; train puts its own tick in this one's place. */
static void tick(void *context)
{
    sow_code rc = sow_world_pulse(context);
    if (rc != SOW_OK)
        sow_log(SOW_LOG_DEBUG, "%s", sow_error_text()); /* the next call that waits returns it */
}

static sow_code set_up(sow_world *w, int *argc, char ***argv)
{
    SOW_TRY(SOW_ALLOC(&w->own_slot, 1));
    w->mine = w->own_slot;
    SOW_TRY(start_mpi(w, argc, argv));
    SOW_TRY(SOW_ALLOC(&w->peers, w->size));
    for (int r = 0; r < w->size; r++)
        w->peers[r].is_alive = true;
    w->n_alive = w->size;
    w->listened_s = sow_clock_now_s();
    SOW_TRY(meet_peers(w));
    SOW_TRY(sow_par_control_open(w));
    if (w->size > 1) {
        char who[32];
        (void)snprintf(who, sizeof who, "rank %d", w->rank);
        sow_log_name(who);
        sow_phase_install_word(&w->mine->phase);
        sow_phase_install_tick(tick, w);
    }
    return SOW_OK;
}

sow_code sow_world_start(int *argc, char ***argv, sow_world **out)
{
    sow_world *w = NULL;
    SOW_TRY(SOW_ALLOC(&w, 1));
    w->comm = w->ending = w->host = w->node = w->leaders = w->sums = MPI_COMM_NULL;
    w->deadline_s = start_deadline_s;
    sow_code rc = set_up(w, argc, argv);
    if (rc != SOW_OK) { /* MPI is left as it is: the job ends with this process */
        SOW_FREE(&w->peers);
        SOW_FREE(&w->own_slot);
        SOW_FREE(&w);
        return rc;
    }
    *out = w;
    return SOW_OK;
}

static void free_comm(MPI_Comm *comm)
{
    if (*comm != MPI_COMM_NULL)
        (void)MPI_Comm_free(comm);
}

/* All ranks are here: the last calls that are collective. */
static void finish_mpi(sow_world *w, int status)
{
    sow_watch watch;
    sow_par_watch_begin(&watch, w, "MPI_Finalize", sow_par_watch_limit_s(w));
    watch.status = status;
    watch.may_leave_after_loss = w->size > 1;
    for (int64_t i = 0; i < w->n_shared; i++)
        (void)MPI_Win_free(&w->shared[i].window);
    free_comm(&w->sums);
    free_comm(&w->leaders);
    free_comm(&w->node);
    free_comm(&w->host);
    free_comm(&w->ending);
    free_comm(&w->comm);
    (void)MPI_Finalize();
    sow_par_watch_end(&watch);
}

void sow_world_stop(sow_world **world, int status)
{
    sow_world *w = *world;
    if (w == NULL)
        return;
    if (w->size > 1) {
        sow_phase_install_tick(NULL, NULL);
        sow_par_leave(w, status);
        sow_phase_install_word(NULL);
    }
    finish_mpi(w, status);
    sow_par_free_letters(w);
    SOW_FREE(&w->shared);
    SOW_FREE(&w->node_members);
    SOW_FREE(&w->node_offsets);
    SOW_FREE(&w->node_of);
    SOW_FREE(&w->peers);
    SOW_FREE(&w->own_slot);
    SOW_FREE(world);
}

int sow_world_rank(const sow_world *world)
{
    return world->rank;
}

int sow_world_size(const sow_world *world)
{
    return world->size;
}

const char *sow_world_host(const sow_world *world, int rank)
{
    SOW_ASSERT(rank >= 0 && rank < world->size);
    return world->peers[rank].host;
}

const char *sow_world_library(void)
{
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    if (text[0] == '\0' && MPI_Get_library_version(text, &length) != MPI_SUCCESS)
        (void)snprintf(text, sizeof text, "unknown");
    text[strcspn(text, "\n")] = '\0';
    for (char *p = text; *p != '\0'; p++)
        if (*p == '\t')
            *p = ' ';
    return text;
}

double sow_world_deadline_s(const sow_world *world)
{
    return world->deadline_s;
}

sow_traffic sow_world_traffic(const sow_world *world)
{
    return world->traffic;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory from MPI, and the control window: one slot per rank of a host, in which the others see its phase, its
 * signs of life and how far it has come, without a message and after its death too.
 *
 * MPI keeps such memory in files, mostly on /dev/shm.  A file there takes its pages when they are touched, and
 * touching one when the file system is full is SIGBUS.  So the space is looked at before, which gives a clear
 * message; and the pages are taken at once with MADV_POPULATE_WRITE, which fails where a touch would kill (another
 * job may have taken the space since). */
#include "par_impl.h"

#include "sower/alloc.h"
#include "sower/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* since Linux 5.14 */
#endif

enum { LINE_BYTES = 64 };
static const char default_folder[] = "/dev/shm";
static const size_t step_bytes = (size_t)64 << 20; /* taken between two signs of life */
static const size_t extra_bytes = (size_t)1 << 20; /* for what MPI puts beside the data */

/* Where MPI puts shared windows.  Open MPI can be told by a parameter, which mpirun hands on in the environment.
 * (MPI_T would tell it also from a file of parameters, but takes 0.2 s; a wrong guess costs no more than the clear
 * message.) */
static const char *find_folder(void)
{
    const char *folder = getenv("OMPI_MCA_osc_sm_backing_directory");
    return folder != NULL && folder[0] == '/' ? folder : default_folder;
}

static sow_code check_space(size_t bytes, const char *what)
{
    struct statvfs fs;
    const char *folder = find_folder();
    if (statvfs(folder, &fs) != 0) {
        if (strcmp(folder, default_folder) == 0)
            return SOW_OK; /* MPI puts it elsewhere: then taking the pages tells */
        return SOW_FAIL(SOW_EIO, "%s: %s; shared memory for %s goes there (osc_sm_backing_directory)", folder,
                        strerror(errno), what);
    }
    uint64_t bytes_free = (uint64_t)fs.f_bavail * fs.f_frsize;
    uint64_t needed = bytes > SIZE_MAX - extra_bytes ? UINT64_MAX : (uint64_t)(bytes + extra_bytes);
    if (needed > bytes_free)
        return SOW_FAIL(SOW_ENOMEM,
                        "%s: %" PRIu64 " bytes free, %" PRIu64
                        " needed for %s; free some, mount it larger, or put one rank on "
                        "a node",
                        folder, bytes_free, needed, what);
    return SOW_OK;
}

static size_t page_bytes(void)
{
    long page = sysconf(_SC_PAGESIZE);
    return page > 0 ? (size_t)page : 4096;
}

/* Before Linux 5.14: a write of what is there to each page. */
static void touch(void *data, size_t bytes, size_t page)
{
    _Atomic unsigned char *cells = data;
    for (size_t at = 0; at < bytes; at += page)
        atomic_fetch_or(&cells[at], 0);
}

/* Takes the pages of this rank's even share of the data, so that they lie near it. */
static sow_code take_pages(sow_world *w, MPI_Comm comm, unsigned char *data, size_t bytes, const char *what)
{
    int index = 0, n = 1;
    SOW_TRY_MPI(MPI_Comm_rank(comm, &index));
    SOW_TRY_MPI(MPI_Comm_size(comm, &n));
    size_t page = page_bytes(), offset = (uintptr_t)data % page, n_pages = (offset + bytes + page - 1) / page;
    unsigned char *start = data - offset;
    size_t first = n_pages / (size_t)n * (size_t)index, end = first + n_pages / (size_t)n;
    if (index == n - 1)
        end = n_pages;
    for (size_t at = first * page; at < end * page; at += step_bytes) {
        size_t step = end * page - at < step_bytes ? end * page - at : step_bytes;
        unsigned char *here = start + at;
        if (madvise(here, step, MADV_POPULATE_WRITE) != 0) {
            if (errno != EINVAL && errno != ENOSYS)
                return SOW_FAIL(SOW_ENOMEM, "%s: the space for %zu bytes of %s ran out while it was taken (%s)",
                                find_folder(), bytes, what, strerror(errno));
            touch(here, step, page);
        }
        SOW_TRY(sow_world_pulse(w));
    }
    return SOW_OK;
}

/* What can fail on one rank alone, before the others wait for it in MPI_Win_allocate_shared. */
sow_code sow_par_shared_prepare(sow_world *w, size_t bytes, const char *what)
{
    SOW_TRY(SOW_GROW(&w->shared, &w->shared_capacity, w->n_shared));
    return check_space(bytes, what);
}

/* Collective over `comm`; every rank must agree on the outcome before it goes on. */
sow_code sow_par_shared_make(sow_world *w, MPI_Comm comm, size_t bytes, const char *what, void **out)
{
    int index = 0, unit = 0;
    void *base = NULL;
    MPI_Win window = MPI_WIN_NULL;
    MPI_Aint size = 0;
    SOW_TRY_MPI(MPI_Comm_rank(comm, &index));
    MPI_Aint mine = index == 0 ? (MPI_Aint)(bytes + LINE_BYTES) : 0;
    SOW_TRY_BLOCKING(w, "MPI_Win_allocate_shared",
                     MPI_Win_allocate_shared(mine, 1, MPI_INFO_NULL, comm, &base, &window));
    w->shared[w->n_shared++].window = window;
    SOW_TRY_MPI(MPI_Win_shared_query(window, 0, &size, &unit, &base));
    unsigned char *data = (unsigned char *)base + (LINE_BYTES - (uintptr_t)base % LINE_BYTES) % LINE_BYTES;
    SOW_TRY(take_pages(w, comm, data, bytes, what));
    *out = data;
    return SOW_OK;
}

/* Whether all ranks of the host have come this far. */
static sow_code all_fine(sow_world *w, bool *is_fine)
{
    int all = *is_fine;
    SOW_TRY_MPI(MPI_Iallreduce(MPI_IN_PLACE, &all, 1, MPI_INT, MPI_MIN, w->host, &w->pending));
    SOW_TRY(sow_par_wait(w, "the start", 0));
    *is_fine = all != 0;
    return SOW_OK;
}

sow_code sow_par_control_open(sow_world *w)
{
    if (w->n_here == 1)
        return SOW_OK;
    size_t bytes = (size_t)w->n_here * sizeof(sow_slot);
    void *data = NULL;
    bool is_fine = sow_par_shared_prepare(w, bytes, "the ranks' control window") == SOW_OK;
    SOW_TRY(all_fine(w, &is_fine));
    if (is_fine) {
        is_fine = sow_par_shared_make(w, w->host, bytes, "the ranks' control window", &data) == SOW_OK;
        SOW_TRY(all_fine(w, &is_fine));
    }
    if (!is_fine) {
        sow_log(SOW_LOG_DEBUG, "no control window: phases of this host travel with pulses");
        return SOW_OK;
    }
    sow_slot *slots = data;
    for (int r = 0; r < w->size; r++)
        if (w->peers[r].is_here)
            w->peers[r].slot = &slots[w->peers[r].host_index];
    w->mine = &slots[w->peers[w->rank].host_index];
    atomic_store(&w->mine->arrived, w->arrived);
    return SOW_OK;
}

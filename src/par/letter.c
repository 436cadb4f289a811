/* SPDX-License-Identifier: Apache-2.0 */
/* Small messages, out and in.
 *
 * A letter is a buffer with its request.  Its memory is MPI's until the request is complete, and for ever if that
 * never happens: a letter to or from a rank that died is abandoned, neither touched again nor freed while the process
 * lives.
 *
 *   spare -> outgoing -> spare                     sow_world_send
 *   spare -> inbox (receiving, then done) -> spare  taken in by whoever listens, handed out by sow_world_poll
 *   outgoing, inbox -> abandoned                   of a lost rank, or half a message after the deadline
 *
 * Order: MPI matches the messages of one rank in the order of sending, so the inbox holds each rank's letters in
 * order, and a letter is handed out only when no earlier one of its rank is unfinished.  Open MPI copies up to 4,096
 * bytes, its header of 56 among them, into memory that outlives the sender; so a message of SOW_MESSAGE_BYTES arrives
 * whole although its sender died just after.  The request is complete only when the receiver has looked, so letters
 * to a busy rank wait in `outgoing`. */
#include "par_impl.h"

#include "sower/alloc.h"
#include "sower/log.h"

#include <string.h>

enum { AT_ONCE = 64, TESTED = 4 };      /* messages taken in, and letters out looked at, by one call */
static const double gone_grace_s = 0.2; /* for the rest of a message whose sender's process is gone */

static void push(sow_letters *q, sow_letter *letter)
{
    letter->next = NULL;
    if (q->last != NULL)
        q->last->next = letter;
    else
        q->first = letter;
    q->last = letter;
}

/* Takes out the letter at *place, whose predecessor is `before` (NULL: it is the first). */
static sow_letter *take(sow_letters *q, sow_letter *before)
{
    sow_letter *letter = before != NULL ? before->next : q->first;
    if (before != NULL)
        before->next = letter->next;
    else
        q->first = letter->next;
    if (q->last == letter)
        q->last = before;
    return letter;
}

static sow_code new_letter(sow_world *w, int peer, int tag, size_t bytes, sow_letter **out)
{
    sow_letter *letter = NULL;
    if (w->spare.first != NULL)
        letter = take(&w->spare, NULL);
    else
        SOW_TRY(SOW_ALLOC(&letter, 1));
    letter->request = MPI_REQUEST_NULL;
    letter->peer = peer;
    letter->tag = tag;
    letter->bytes = bytes;
    letter->is_done = false;
    letter->begun_s = w->own_s;
    *out = letter;
    return SOW_OK;
}

static sow_code test(sow_letter *letter)
{
    int is_done = 0;
    if (letter->is_done)
        return SOW_OK;
    SOW_TRY_MPI(MPI_Test(&letter->request, &is_done, MPI_STATUS_IGNORE));
    letter->is_done = is_done != 0;
    return SOW_OK;
}

sow_code sow_par_post(sow_world *w, int to, int tag, const void *data, size_t bytes)
{
    sow_letter *letter = NULL;
    SOW_TRY(new_letter(w, to, tag, bytes, &letter));
    if (bytes > 0)
        memcpy(letter->data, data, bytes);
    push(&w->outgoing, letter);
    if (tag == SOW_TAG_PULSE)
        w->peers[to].is_pulse_out = true;
    SOW_TRY_MPI(MPI_Isend(letter->data, (int)bytes, MPI_BYTE, to, tag, w->comm, &letter->request));
    w->traffic.messages_sent++;
    w->traffic.bytes_sent += (int64_t)bytes;
    return sow_par_flush(w);
}

/* A test of what cannot be complete yet may cost a turn of the scheduler, so only a few are made; who was tested goes
 * to the end. */
sow_code sow_par_flush(sow_world *w)
{
    for (int n = 0; n < TESTED && w->outgoing.first != NULL; n++) {
        sow_letter *letter = w->outgoing.first;
        SOW_TRY(test(letter));
        push(letter->is_done ? &w->spare : &w->outgoing, take(&w->outgoing, NULL));
        if (letter->is_done && letter->tag == SOW_TAG_PULSE)
            w->peers[letter->peer].is_pulse_out = false;
        if (letter == w->outgoing.first)
            break;
    }
    return SOW_OK;
}

sow_code sow_world_send(sow_world *w, int to, int tag, const void *data, size_t bytes)
{
    SOW_ASSERT(to >= 0 && to < w->size && to != w->rank && (to == 0 || w->rank == 0));
    SOW_ASSERT(tag >= 0 && tag < SOW_TAG_PULSE && bytes <= SOW_MESSAGE_BYTES);
    if (!w->peers[to].is_alive)
        return SOW_OK;
    return sow_par_post(w, to, tag, data, bytes);
}

/* A letter that is complete, on its way to the inbox: pulses and the letters of lost ranks end here. */
static void deliver(sow_world *w, sow_letter *letter)
{
    sow_peer *p = &w->peers[letter->peer];
    w->traffic.messages_received++;
    w->traffic.bytes_received += (int64_t)letter->bytes;
    if (p->is_alive)
        p->heard_s = w->own_s;
    if (p->is_alive && letter->tag == SOW_TAG_PULSE)
        sow_par_hear_pulse(w, letter->peer, letter->data, letter->bytes);
}

/* Receives the message that a probe has found. */
static sow_code receive(sow_world *w, const MPI_Status *status)
{
    int bytes = 0, from = status->MPI_SOURCE, tag = status->MPI_TAG;
    SOW_TRY_MPI(MPI_Get_count(status, MPI_BYTE, &bytes));
    if (bytes < 0 || bytes > SOW_MESSAGE_BYTES)
        return SOW_FAIL(SOW_ECOMM, "rank %d on %s: a message of %d bytes, expected at most %d", from,
                        w->peers[from].host, bytes, SOW_MESSAGE_BYTES);
    sow_letter *letter = NULL;
    SOW_TRY(new_letter(w, from, tag, (size_t)bytes, &letter));
    push(&w->inbox, letter);
    w->peers[from].n_unread++;
    SOW_TRY_MPI(MPI_Irecv(letter->data, bytes, MPI_BYTE, from, tag, w->comm, &letter->request));
    return SOW_OK;
}

/* Takes a letter out of the inbox into `to`. */
static void leave_inbox(sow_world *w, sow_letter *before, sow_letters *to)
{
    sow_letter *letter = take(&w->inbox, before);
    w->peers[letter->peer].n_unread--;
    push(to, letter);
}

/* Half a message: its sender is gone or has been silent too long, and nothing of it will be heard any more. */
static bool is_hopeless(const sow_world *w, const sow_letter *letter)
{
    double age_s = w->own_s - letter->begun_s;
    return age_s > w->deadline_s || (age_s > gone_grace_s && sow_world_is_gone(w, letter->peer));
}

/* Walks through the inbox: completes what is complete, and drops what nobody will read. */
static sow_code sort_inbox(sow_world *w)
{
    sow_letter *before = NULL, *letter = w->inbox.first;
    while (letter != NULL) {
        sow_letter *next = letter->next;
        sow_peer *p = &w->peers[letter->peer];
        bool was_done = letter->is_done;
        SOW_TRY(test(letter));
        if (letter->is_done && !was_done)
            deliver(w, letter);
        bool is_unwanted = !p->is_alive || p->is_stuck;
        if (letter->is_done && (is_unwanted || letter->tag == SOW_TAG_PULSE)) {
            leave_inbox(w, before, &w->spare);
        } else if (!letter->is_done && (is_unwanted || is_hopeless(w, letter))) {
            if (p->is_alive && !p->is_stuck)
                sow_log(SOW_LOG_WARN, "rank %d on %s left a message of %zu bytes unfinished", letter->peer, p->host,
                        letter->bytes);
            p->is_stuck = true;
            leave_inbox(w, before, &w->abandoned);
        } else {
            before = letter;
        }
        letter = next;
    }
    return SOW_OK;
}

/* Open MPI's probe looks first and makes progress after: what has come is often found by the second. */
sow_code sow_par_absorb(sow_world *w)
{
    for (int n = 0, n_missed = 0; n < AT_ONCE && n_missed < 2; n++) {
        int has = 0;
        MPI_Status status;
        SOW_TRY_MPI(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, w->comm, &has, &status));
        n_missed += !has;
        if (has)
            SOW_TRY(receive(w, &status));
    }
    return w->inbox.first != NULL ? sort_inbox(w) : SOW_OK;
}

/* The first letter that is whole and has no unfinished one of its rank before it. */
static sow_letter *find_next(const sow_world *w, sow_letter **before)
{
    *before = NULL;
    for (sow_letter *l = w->inbox.first; l != NULL; *before = l, l = l->next) {
        bool is_held = !l->is_done;
        for (const sow_letter *e = w->inbox.first; e != l && !is_held; e = e->next)
            is_held = e->peer == l->peer && !e->is_done;
        if (!is_held)
            return l;
    }
    return NULL;
}

sow_code sow_world_poll(sow_world *w, sow_message *out, bool *has)
{
    *has = false;
    if (w->size == 1)
        return SOW_OK;
    sow_letter *before = NULL, *letter = find_next(w, &before);
    if (letter == NULL) {
        SOW_TRY(sow_par_listen(w));
        letter = find_next(w, &before);
    }
    if (letter == NULL)
        return SOW_OK;
    out->from = letter->peer;
    out->tag = letter->tag;
    out->bytes = letter->bytes;
    memcpy(out->data, letter->data, letter->bytes);
    leave_inbox(w, before, &w->spare);
    *has = true;
    return SOW_OK;
}

static void abandon_in(sow_world *w, sow_letters *q, int rank)
{
    sow_letter *before = NULL, *letter = q->first;
    while (letter != NULL) {
        sow_letter *next = letter->next;
        if (letter->peer == rank && q == &w->inbox)
            leave_inbox(w, before, letter->is_done ? &w->spare : &w->abandoned);
        else if (letter->peer == rank)
            push(letter->is_done ? &w->spare : &w->abandoned, take(q, before));
        else
            before = letter;
        letter = next;
    }
}

void sow_par_abandon(sow_world *w, int rank)
{
    abandon_in(w, &w->outgoing, rank);
    abandon_in(w, &w->inbox, rank);
}

static void free_all(sow_letters *q)
{
    while (q->first != NULL) {
        sow_letter *letter = take(q, NULL);
        SOW_FREE(&letter);
    }
}

/* After MPI_Finalize, which returns only when nothing is under way. */
void sow_par_free_letters(sow_world *w)
{
    free_all(&w->spare);
    free_all(&w->outgoing);
    free_all(&w->inbox);
    free_all(&w->abandoned);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Generated rows: row i is a pure function of (task, seed, split, i).
 *
 * A row has its own place in Philox, so that any rank can make any row and none depends on another.  Inside the place,
 * draws are repeated until one is legal and lies on the right side of the held-out rule.  The task is in the place by
 * a checksum of its name, not by its position in tasks.def: a new line in the table changes no row. */
#include "task_impl.h"

#include "sower/hash.h"

#include <string.h>

/* More than any task here needs (Countdown with two numbers, held out: about 5,000); less than a second. */
enum { MAX_DRAWS = 1000000 };

bool sow_split_is_test(const sow_task_options *options)
{
    return strcmp(options->split, "test") == 0;
}

bool sow_row_is_held_out(const char *key)
{
    return sow_hash_crc32(key, strlen(key)) % 10 == 0;
}

sow_row_source sow_row_source_of(const char *name, const sow_task_options *options)
{
    return (sow_row_source){
        .name = name,
        .seed = (uint32_t)options->seed,
        .is_test = sow_split_is_test(options),
        .offset = options->offset,
    };
}

/* Generation and tensor of the place carry the row's number, 32 and 31 bits, and the split. */
static sow_place place_of(const sow_row_source *source, int64_t row)
{
    uint64_t number = (uint64_t)(source->offset + row);
    uint32_t task = sow_hash_crc32(source->name, strlen(source->name)) & 0x0fffffff;
    uint32_t high = (uint32_t)(number >> 32) << 1 | (source->is_test ? 1U : 0U);
    return sow_place_of(SOW_STREAM_ROW, source->seed, (uint32_t)number, task, high);
}

void sow_row_random(const sow_row_source *source, int64_t row, sow_random *out)
{
    sow_random_init(out, place_of(source, row));
}

sow_code sow_row_draw(const sow_row_source *source, int64_t row, sow_draw_fn draw, const void *how, void *item,
                      char key[SOW_KEY_BYTES])
{
    sow_random random;
    sow_row_random(source, row, &random);
    for (int i = 0; i < MAX_DRAWS; i++)
        if (draw(how, &random, item, key) && sow_row_is_held_out(key) == source->is_test)
            return SOW_OK;
    return SOW_FAIL(
        SOW_ECONF,
        "task.operand_max: task %s finds no legal %s row in %d draws, expected larger operands or more numbers",
        source->name, source->is_test ? "held-out" : "training", MAX_DRAWS);
}

// NEEDS: train
/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a ledger: read or refused with one line; no block stays alive. */
#include "fuzz.h"

#include "sower/ledger.h"

#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static char path[64];
    sow_ledger *ledger = NULL;
    if (path[0] == '\0')
        (void)snprintf(path, sizeof path, "/tmp/sower-fuzz-ledger-%d", (int)getpid());
    FILE *file = fopen(path, "wb");
    FUZZ_CHECK(file != NULL);
    FUZZ_CHECK(fwrite(data, 1, bytes, file) == bytes);
    FUZZ_CHECK(fclose(file) == 0);
    sow_code rc = sow_ledger_read(path, &ledger);
    if (rc == SOW_OK) {
        FUZZ_CHECK(ledger->n >= 0 && (ledger->n == 0 || ledger->header != NULL));
        FUZZ_CHECK(ledger->good_bytes <= (int64_t)bytes);
    } else {
        FUZZ_CHECK_MESSAGE();
    }
    sow_ledger_destroy(&ledger);
    FUZZ_CHECK(unlink(path) == 0);
    FUZZ_CHECK(sow_alloc_live() == 0);
    return 0;
}

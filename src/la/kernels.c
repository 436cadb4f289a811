/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.c: which tables of kernels this CPU can run, and their names. */
#include "sower/kernels.h"

#include "la_impl.h"

#include <stdio.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const type_names[SOW_N_TYPES] = {
    [SOW_FP16] = "fp16", [SOW_BF16] = "bf16", [SOW_F32] = "f32", [SOW_BF16_MIXED] = "bf16-mixed"};

const char *sow_type_name(sow_type type)
{
    return type_names[type];
}

size_t sow_type_bytes(sow_type type)
{
    return type == SOW_F32 ? sizeof(float) : sizeof(uint16_t);
}

#if defined(SOW_HAS_AVX2)
/* What -march=x86-64-v3 lets a compiler use, as far as CPUs differ. */
static bool has_avx2(void)
{
    unsigned a, b, c = 0, d;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2") && __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

#if defined(SOW_HAS_AVX512)
/* The same for -march=x86-64-v4. */
static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
#endif

#if defined(SOW_HAS_AVX512BF16)
/* The instruction is taken for what its maker says of it only where it gives the plain twin's bits: sums whose order
 * shows, in the second half of the rows sums that leave the range of normal numbers; and in the last two rows what lies
 * at its edge: x that would be normal if it were rounded first, and a sum that is normal only if it is. */
static bool multiplies_pairs_as_plain(void)
{
    enum { M = 10, K = 64 };
    static const uint32_t edge_x[4] = {0x807fffff, 0x007f8000, 0x80800000, 0x00800000}; /* -2^-126, 2^-126 */
    static const uint16_t edge_w[4] = {0x3f80, 0x4000, 0x3280, 0x3f80};                 /* 1, 2, 2^-26, 1 */
    static float x[M * K], y[2][M * SOW_PANEL];
    static _Alignas(64) uint16_t w[K * SOW_PANEL];
    uint32_t state = 1;
    for (int i = 0; i < K * SOW_PANEL; i++) {
        state = state * 1664525 + 1013904223;               /* Knuth, TAOCP 2, 3.3.4 */
        w[i] = (uint16_t)((state >> 16 & 0x80ff) | 0x3e00); /* 2^-3 to 2^-1 and their negatives */
    }
    for (int i = 0; i < M * K; i++) {
        state = state * 1664525 + 1013904223;
        x[i] = ((float)(state >> 8) * 0x1p-23f - 1.0f) * (i < M / 2 * K ? 1.0f : 0x1p-126f * (float)(1 << i % 8));
    }
    memset(x + (M - 2) * K, 0, sizeof(float) * 2 * K); /* one case alone, and the other */
    memcpy(x + (M - 2) * K, edge_x, 2 * sizeof *edge_x);
    memcpy(x + (M - 1) * K + 2, edge_x + 2, 2 * sizeof *edge_x);
    for (int i = 0; i < 4; i++)
        w[(i / 2 * SOW_PANEL) * 2 + i % 2] = edge_w[i]; /* of output 0 */
    for (int i = 0; i < 2; i++)
        (i == 0 ? &sow_kernels_plain : &sow_kernels_avx512bf16)
            ->linear(&(sow_linear_args){.type = SOW_BF16_MIXED,
                                        .m_size = M,
                                        .n_size = SOW_PANEL,
                                        .k_size = K,
                                        .ldx = K,
                                        .ldy = SOW_PANEL,
                                        .x = x,
                                        .w = w,
                                        .y = y[i]});
    return memcmp(y[0], y[1], sizeof y[0]) == 0;
}

static bool has_avx512bf16(void)
{
    static int answer = -1;
    if (answer < 0)
        answer = has_avx512() && __builtin_cpu_supports("avx512bf16") && multiplies_pairs_as_plain() ? 1 : 0;
    return answer == 1;
}
#endif

static bool always(void)
{
    return true;
}

/* Best first. */
static const struct variant {
    const sow_kernels *kernels;
    bool (*can_run)(void);
} variants[] = {
#if defined(SOW_HAS_AVX512BF16)
    {&sow_kernels_avx512bf16, has_avx512bf16},
#endif
#if defined(SOW_HAS_AVX512)
    {&sow_kernels_avx512, has_avx512},
#endif
#if defined(SOW_HAS_AVX2)
    {&sow_kernels_avx2, has_avx2},
#endif
#if defined(SOW_HAS_NEON)
    {&sow_kernels_neon, always},
#endif
    {&sow_kernels_plain, always},
};

const sow_kernels *sow_kernels_at(int64_t index)
{
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        if (variants[i].can_run() && index-- == 0)
            return variants[i].kernels;
    return NULL;
}

int64_t sow_kernels_count(void)
{
    int64_t n = 0;
    while (sow_kernels_at(n) != NULL)
        n++;
    return n;
}

sow_code sow_kernels_find(const char *name, const sow_kernels **out)
{
    char names[128] = "auto";
    const sow_kernels *kernels;
    for (int64_t i = 0; (kernels = sow_kernels_at(i)) != NULL; i++) {
        if (strcmp(name, kernels->name) == 0 || strcmp(name, "auto") == 0) {
            *out = kernels;
            return SOW_OK;
        }
        const size_t used = strlen(names);
        (void)snprintf(names + used, sizeof names - used, ", %s", kernels->name);
    }
    return SOW_FAIL(SOW_ECONF, "la.kernel: '%s' is not possible on this CPU with this build, expected one of %s", name,
                    names);
}

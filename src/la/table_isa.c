/* SPDX-License-Identifier: Apache-2.0 */
/* table_isa.c: the table of one instruction set. */
#include "isa.h"

const sow_kernels ISA_FN(kernels) = {
    .name = ISA_NAME(SOW_ISA),
    .linear = ISA_FN(linear),
    .attention = ISA_FN(attention),
    .rms_norm = ISA_FN(rms_norm),
    .swiglu = ISA_FN(swiglu),
    .add = ISA_FN(add),
    .rope = ISA_FN(rope),
    .argmax = ISA_FN(argmax),
    .sum_exp = ISA_FN(sum_exp),
    .exp = ISA_FN(exp),
    .log = ISA_FN(log),
    .has_non_finite = ISA_FN(has_non_finite),
    .noise = ISA_FN(noise),
    .perturb = ISA_FN(perturb),
    .accumulate = ISA_FN(accumulate),
    .apply = ISA_FN(apply),
    .perturb_f32 = ISA_FN(perturb_f32),
    .hold = ISA_FN(hold),
    .outer = ISA_FN(outer),
    .transpose = ISA_FN(transpose),
    .adamw = ISA_FN(adamw),
    .add_fixed = ISA_FN(add_fixed),
    .add_int64 = ISA_FN(add_int64),
    .from_fixed = ISA_FN(from_fixed),
    .narrow = ISA_FN(narrow),
    .widen = ISA_FN(widen),
    .peak = ISA_FN(peak),
    .read = ISA_FN(read),
};

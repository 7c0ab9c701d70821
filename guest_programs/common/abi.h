/* Guest ABI version 1. The same words stand in btcfi/options/expiry.py and docs/proofs.md. */
#ifndef BTCFI_ABI_H
#define BTCFI_ABI_H

#include <stdint.h>

typedef uint32_t u32;
typedef uint64_t u64;

#define ABI_VERSION 1u

enum option_type { CALL = 0, PUT = 1, BINARY_CALL = 2, BINARY_PUT = 3 };

/* 0-3 are published; 4 and 5 answer an American option before its expiry. */
enum exercise_type {
    NO_EXERCISE = 0,
    IN_THE_MONEY = 1,
    OUT_OF_THE_MONEY = 2,
    AT_THE_MONEY = 3,
    EARLY_EXERCISE = 4,
    HOLD = 5,
};

enum error {
    ERROR_NONE = 0,
    ERROR_ABI_VERSION = 1,
    ERROR_OPTION_TYPE = 2,
    ERROR_STRIKE = 3,
    ERROR_SPOT = 4,
    ERROR_QUANTITY = 5,
    ERROR_BARRIER = 6,
    ERROR_EARLY_EXERCISE = 7,
    ERROR_TIME_TO_EXPIRY = 8,
    ERROR_VOLATILITY = 9,
    ERROR_OBSERVED_RANGE = 10,
    ERROR_RATE = 11,
    ERROR_COLLATERAL = 12,
};

/* Words 0-7 in the published order; money in US cents, prices in cents per bitcoin. */
struct settlement_input {
    u32 option_type;
    u32 strike;
    u32 spot;
    u32 quantity;        /* 1/100 BTC */
    u32 barrier_level;   /* 0: none */
    u32 early_exercise;  /* 0 European, 1 American */
    u32 time_to_expiry;  /* minutes */
    u32 volatility;      /* 1/100 % a year */
    u32 observed_low;
    u32 observed_high;
    u32 premium;
    u32 rate;            /* 1/100 % a year, continuous */
    u32 collateral_low;  /* satoshis, low word first */
    u32 collateral_high;
    u32 abi_version;
};

/* 64-bit values as two words, low first: RV32 has no other. */
struct settlement_output {
    u32 payout_low;
    u32 payout_high;
    u32 exercise_type;
    u32 barrier_hit;
    u32 profit_loss_low; /* two's complement */
    u32 profit_loss_high;
    u32 payout_sats_low;
    u32 payout_sats_high;
    u32 abi_version;
    u32 error;
};

_Static_assert(sizeof(struct settlement_input) == 60, "input words");
_Static_assert(sizeof(struct settlement_output) == 40, "output words");

#define INPUT ((const volatile struct settlement_input *)0x80000000u)
#define OUTPUT ((volatile struct settlement_output *)0x80001000u)

#define MAX_QUANTITY 2100000000u             /* 21 million BTC in 1/100 BTC */
#define MAX_COLLATERAL 2100000000000000ull   /* 21 million BTC in satoshis */

#endif

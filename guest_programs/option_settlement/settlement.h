/* The stages of one settlement, each in a file of its own. */
#ifndef BTCFI_SETTLEMENT_H
#define BTCFI_SETTLEMENT_H

#include "wide.h"

/* An input that was read once and found in range. */
struct terms {
    u32 option_type;
    u32 strike;
    u32 spot;
    u32 quantity;
    u32 barrier;
    u32 minutes;
    u32 volatility;
    u32 rate;
};

struct payoff {
    struct wide value; /* cents times 1/100 BTC, exact: what the satoshis are made of */
    struct wide cents; /* its floor in cents, for people */
    u32 exercise_type;
};

/* validate.c: the first input word that is out of range, as an error code. */
u32 validate(const volatile struct settlement_input *input);

/* barrier.c: 1 when the path has touched the knock-out level. */
u32 knocked_out(u32 barrier, u32 strike, u32 observed_low, u32 observed_high);

/* payoff.c: the branch-free core. */
void payoff(struct payoff *result, u32 option_type, u32 strike, u32 spot, u32 quantity, u32 barrier_hit);

/* exercise_tree.c: 1 exercise now, 0 hold; TREE_REFUSED when volatility * sqrt(time) is out of range. */
#define TREE_REFUSED 2u
u32 exercise_now(const struct terms *terms);

/* answer.c: the three ways to end. `pay` converts and writes what `payoff` found; `early` marks an early exercise. */
void refuse(volatile struct settlement_output *output, u32 error);
void hold(const volatile struct settlement_input *input, volatile struct settlement_output *output);
void pay(const volatile struct settlement_input *input, volatile struct settlement_output *output, u32 barrier_hit,
         u32 early);

/* expiry.c: validate, barrier, payoff, conversion; an option with time left is held. */
void settle_at_expiry(const volatile struct settlement_input *input, volatile struct settlement_output *output);

/* conversion.c: what `value` is worth in satoshis at the settlement price, at most the collateral. */
struct wide sats_at(struct wide value, u32 spot, struct wide collateral);

#endif

/* Signed legs of one expiry between two parties: their value summed exactly, divided once. btcfi/payoffs/book_guest.py */
#ifndef BTCFI_NET_BOOK_H
#define BTCFI_NET_BOOK_H

#include "wide.h"

#define MOST_LEGS 64u

/* Bit 0: below the strike, 1: the strike in cash, 2: the leg's own cash; 1 and 2 together: the price less the strike. */
enum leg_kind { LEG_DIGITAL_CALL = 4, LEG_DIGITAL_PUT = 5, LEG_FORWARD = 6 };

struct leg {
    u32 kind;      /* enum option_type, or enum leg_kind */
    u32 strike;    /* cents per bitcoin */
    u32 cash;      /* what a digital pays per bitcoin, in cents; of other kinds 0 */
    u32 quantity;  /* 1/100 BTC, two's complement: below zero sold */
    u32 knock_out; /* 1: nothing once the barrier was touched */
};

struct book_input {
    u32 abi_version;
    u32 count;
    u32 spot;
    u32 floor;   /* below it the legs settle as at this price; 0: none */
    u32 barrier; /* of all legs that have one; 0: none */
    u32 observed_low;
    u32 observed_high;
    u32 own_low; /* satoshis that the holder put in */
    u32 own_high;
    u32 collateral_low; /* that both did */
    u32 collateral_high;
    struct leg legs[MOST_LEGS];
};

struct book_output {
    u32 payout_low; /* satoshis: own + net, at least 0, at most the collateral */
    u32 payout_high;
    u32 net_low; /* satoshis that the holder gains, two's complement, rounded down once */
    u32 net_high;
    u32 value_low; /* cents times 1/100 BTC, exact, two's complement: what net is made of */
    u32 value_high;
    u32 settled_at; /* the price after the floor */
    u32 barrier_hit;
    u32 abi_version;
    u32 error;
};

_Static_assert(sizeof(struct book_input) == 44 + 20 * MOST_LEGS, "input words");
_Static_assert(sizeof(struct book_output) == 40, "output_size in the manifest");

/* 64 legs of 63 bits and a sign: three words hold any sum of them. */
struct sum {
    u32 low;
    u32 high;
    u32 top;
};

/* payoff.c: the branch-free core; adds what one leg is worth at `price`. */
void payoff(struct sum *total, u32 kind, u32 strike, u32 cash, u32 price, u32 quantity, u32 alive);

/* ../option_settlement/barrier.c: 1 when the path has touched the knock-out level. */
u32 knocked_out(u32 barrier, u32 strike, u32 observed_low, u32 observed_high);

/* conversion.c: a sum's sign; its size, and 0 where that is no number of 63 bits; and its satoshis at a price. */
u32 size_of(const struct sum *total, u32 *negative, struct wide *size);
u32 sats_of(struct wide size, u32 negative, u32 price, struct wide *sats);

#endif

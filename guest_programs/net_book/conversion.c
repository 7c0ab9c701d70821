#include "net_book.h"

#define SATS_PER_CENTIBTC 1000000u

u32 size_of(const struct sum *total, u32 *negative, struct wide *size) {
    u32 sign = total->top >> 31, flip = mask(sign);
    u32 low = (total->low ^ flip) + sign;
    u32 high = (total->high ^ flip) + (low < sign);
    u32 top = (total->top ^ flip) + ((high == 0) & (low == 0) & sign);
    *negative = sign;
    size->low = low;
    size->high = high;
    return (top == 0) & (high < 0x80000000u);
}

/*
 * size * 10^6 / price, rounded away from nothing where the value is below it: a gain and a loss are both rounded down.
 * The only division between the price and the satoshis. 0 where it is more than all bitcoin.
 */
u32 sats_of(struct wide size, u32 negative, u32 price, struct wide *sats) {
    u32 rest, left;
    struct wide whole = divide(size, price, &rest);
    struct wide found = product(whole.low, SATS_PER_CENTIBTC);
    u32 fraction = divide_digits(product(rest, SATS_PER_CENTIBTC), price, &left) + ((left != 0) & negative);
    found.low += fraction;
    found.high += found.low < fraction;
    u32 most_high = (u32)(MAX_COLLATERAL >> 32), most_low = (u32)MAX_COLLATERAL;
    *sats = found;
    return (whole.high == 0) & ((found.high < most_high) | ((found.high == most_high) & (found.low <= most_low)));
}

// The depthwise convolution, either over a group of blocks, whose results fill a projection's panels, or over whole maps.
#pragma once

#include "panels.h"

namespace efficientconv {

// A 3 x 3 filter. The class copies the weights and the sizes, so that they stay in registers: the compiler loads a number
// behind a pointer again after each store, which might have changed it.
//
// For each vector of pixels three vectors are loaded: above, here and below. The sums of the filter's left and right
// columns are then moved by one pixel in registers. To load nine vectors, which are seldom aligned, would take longer.
class Kernel3 {
 public:
  Kernel3(const Maps& maps, const TapMasks& masks, const float* filter, int64_t = 3)
      : width_(maps.width), pixels_(maps.pixels()), above_(masks.of(1)), left_(masks.of(3)), right_(masks.of(5)),
        below_(masks.of(7)) {
    for (int i = 0; i < 9; ++i) taps_[i] = splat(filter[i]);
  }

  // Calls out(i, sum) for each vector of pixels [pixel, pixel + length).
  template <class Out>
  EC_INLINE void convolve(int64_t pixel, int64_t length, const float* from, Out out) const {
    Vec left = pixel > 0 ? splat(beside(pixel - 1, from - 1, 0)) : Vec{}, sum = {}, right = {};
    int64_t i = 0;
    for (; i < length; i += kLanes) {
      const Columns c = columns(pixel + i, from + i);
      if (i > 0) out(i - kLanes, sum + masked(moved_down(right, c.right), right_ + pixel + i - kLanes));
      sum = c.middle + masked(moved_up(left, c.left), left_ + pixel + i);
      left = c.left, right = c.right;
    }
    const Vec last = pixel + i < pixels_ ? splat(beside(pixel + i, from + i, 2)) : Vec{};
    out(i - kLanes, sum + masked(moved_down(right, last), right_ + pixel + i - kLanes));
  }

 protected:
  struct Columns {
    Vec left, middle, right;
  };

  EC_INLINE Columns columns(int64_t pixel, const float* from) const {
    Vec above = load_once(from - width_), here = load_once(from), below = load_once(from + width_);
    if (pixel < width_ || pixel + kLanes > pixels_ - width_) {
      above = masked(above, above_ + pixel);
      below = masked(below, below_ + pixel);
    }
    return {above * taps_[0] + here * taps_[3] + below * taps_[6], above * taps_[1] + here * taps_[4] + below * taps_[7],
            above * taps_[2] + here * taps_[5] + below * taps_[8]};
  }

  // The sum of one of the filter's columns at a pixel just before or after the vectors.
  EC_INLINE float beside(int64_t pixel, const float* from, int column) const {
    const float above = above_[pixel] ? from[-width_] : 0.f, below = below_[pixel] ? from[width_] : 0.f;
    return above * taps_[column][0] + from[0] * taps_[column + 3][0] + below * taps_[column + 6][0];
  }

  int64_t width_, pixels_;
  const int32_t *above_, *left_, *right_, *below_;
  Vec taps_[9];
};

// The same where each vector holds whole rows of the map. No sum moves from one vector to the next, and the masks of the first
// vector serve them all.
class Kernel3Rows : public Kernel3 {
 public:
  using Kernel3::Kernel3;
  static bool fits(const Maps& maps) { return kLanes % maps.width == 0; }

  // Calls out(i, sum) for each vector of pixels [pixel, pixel + length). The pixel is the first of a row.
  template <class Out>
  EC_INLINE void convolve(int64_t pixel, int64_t length, const float* from, Out out) const {
    for (int64_t i = 0; i < length; i += kLanes) {
      const Columns c = columns(pixel + i, from + i);
      out(i, c.middle + masked(moved_up(Vec{}, c.left), left_) + masked(moved_down(c.right, Vec{}), right_));
    }
  }
};

// A k x k filter.
class KernelAny {
 public:
  KernelAny(const Maps& maps, const TapMasks& masks, const float* filter, int64_t kernel)
      : width_(maps.width), pixels_(maps.pixels()), kernel_(kernel), masks_(masks), filter_(filter) {}

  template <class Out>
  EC_INLINE void convolve(int64_t pixel, int64_t length, const float* from, Out out) const {
    const int64_t k = kernel_, p = k / 2;
    for (int64_t i = 0; i < length; i += kLanes) {
      Vec sum = {};
      if (pixel + i >= p * width_ && pixel + i + kLanes <= pixels_ - p * width_) {
        for (int64_t dx = 0; dx < k; ++dx) {  // between those rows, one mask serves all taps of a column
          Vec column = {};
          for (int64_t dy = 0; dy < k; ++dy) column += load(from + i + (dy - p) * width_ + dx - p) * splat(filter_[dy * k + dx]);
          sum += dx == p ? column : masked(column, masks_.of(p * k + dx) + pixel + i);
        }
      } else {
        for (int64_t tap = 0; tap < k * k; ++tap)
          sum += masked(load(from + i + masks_.shift(tap)), masks_.of(tap) + pixel + i) * splat(filter_[tap]);
      }
      out(i, sum);
    }
  }

 private:
  int64_t width_, pixels_, kernel_;
  const TapMasks& masks_;
  const float* filter_;
};

// Convolves one whole map, before and after which a margin may be read: to[i] = end(sum, i).
template <class Kernel, class End>
EC_INLINE void convolve_map(const Kernel kernel, int64_t pixels, const float* from, const End& end, float* to) {
  kernel.convolve(0, pixels, from, [&](int64_t i, Vec sum) {
    if (i + kLanes <= pixels) return store(to + i, end(sum, i));
    for_first_lanes(sum, pixels - i, [&](int64_t j, auto piece) { store_as(to + i + j, end(piece, i + j)); });
  });
}

// A source of panels (panels.h): a panel's row is the convolution of a channel by one of its filters.
struct Depthwise {
  Maps maps;
  const float* x;
  int64_t kernel, multiplier;  // multiplier: filters for each channel
  const TapMasks* masks;
  const float* filters;  // channels * multiplier x k x k

  int64_t rows() const { return maps.channels * multiplier; }
  int64_t rows_of_input() const { return 1; }
  int64_t reach() const { return kernel / 2 * (maps.width + 1); }  // from a pixel to the farthest that its taps read
  Line line() const { return Line(maps); }

  void fill(const std::vector<Run>& runs, int64_t block_stride, int64_t row_stride, float* to) const {
    const Pieces pieces(runs, block_stride);
    if (kernel != 3) fill_rows<KernelAny>(pieces, runs, row_stride, to);
    else if (Kernel3Rows::fits(maps)) fill_rows<Kernel3Rows>(pieces, runs, row_stride, to);
    else fill_rows<Kernel3>(pieces, runs, row_stride, to);
  }

 private:
  struct Piece {  // neighbouring pixels of one image
    int64_t image, pixel, length, place;  // place: of the first pixel in a line of all pieces
  };

  struct Pieces {
    std::vector<Piece> all;
    std::vector<int64_t> vectors;  // where the vectors of the line start in row 0 of the panels
    int64_t places = 0, longest = 0;
    bool aligned = true;  // whether each piece starts at the start of a vector

    Pieces(const std::vector<Run>& runs, int64_t block_stride) {
      for (const Run& run : runs) {
        if (!all.empty() && all.back().image == run.image) all.back().length += run.length;
        else all.push_back({run.image, run.pixel, run.length, places}), aligned = aligned && places % kLanes == 0;
        places += run.length;
        longest = std::max(longest, all.back().length);
        for (int64_t v = static_cast<int64_t>(vectors.size()) * kLanes; v < places; v += kLanes)
          vectors.push_back(run.block * block_stride + run.at + run.length - (places - v));
      }
    }
  };

  // Each row is convolved piece by piece. If the pieces are aligned, the results go straight to the blocks. Else they go to a
  // line first.
  template <class Kernel>
  void fill_rows(const Pieces& pieces, const std::vector<Run>& runs, int64_t row_stride, float* to) const {
    const Floats line(pieces.places + kLanes), margins(pieces.longest + 2 * reach() + kLanes);
    const int64_t* const vectors = pieces.vectors.data();
    const int64_t count = static_cast<int64_t>(pieces.vectors.size());
    const Depthwise here = *this;  // in registers: see Kernel3
    const float* filter = filters;
    for (int64_t c = 0; c < here.maps.channels; ++c) {
      prefetch_channel(here.maps, runs, c, here.reach(), here.x);
      for (int64_t i = 0; i < here.multiplier; ++i, filter += here.kernel * here.kernel, to += row_stride) {
        if (pieces.aligned) {
          here.convolve_row<Kernel>(filter, c, pieces.all, margins, [=](int64_t place, Vec sum) { store(to + vectors[place / kLanes], sum); });
          continue;
        }
        here.convolve_row<Kernel>(filter, c, pieces.all, margins, [at = line.get()](int64_t place, Vec sum) { store(at + place, sum); });
        for (int64_t v = 0; v < count; ++v) store(to + vectors[v], load(line + v * kLanes));
      }
    }
  }

  // Calls out(place, sum) for each vector of the pieces of channel c. The kernel is made after the call of with_margins: before
  // a call the compiler would write all of the kernel's registers to memory.
  template <class Kernel, class Out>
  EC_INLINE void convolve_row(const float* filter, int64_t c, const std::vector<Piece>& pieces, float* margins, const Out& out) const {
    const int64_t pixels = maps.pixels(), image_size = maps.channels * pixels, first = c * pixels, reach = this->reach();
    for (const Piece& piece : pieces) {
      const int64_t at = piece.image * image_size + first + piece.pixel;
      const float* from = with_margins(maps, x, at, round_up(piece.length, kLanes), reach, margins);
      Kernel(maps, *masks, filter, kernel).convolve(piece.pixel, piece.length, from, [&](int64_t i, Vec sum) { out(piece.place + i, sum); });
    }
  }
};

}  // namespace efficientconv

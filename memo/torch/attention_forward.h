// Forward, compiled for one instruction set (see attention_tiles.h): a task is up to four panels, a panel being a tile
// of queries of one head, which go through their keys together. Scores are held transposed, [keys, queries]: a register
// holds sixteen queries, so maxima and sums need no step across lanes, and K, P and V lie as their products read them:
//   S^T [keys, queries] = K Q^T, P^T = exp2(S^T - m), O^T [dim, queries] += V^T P^T.

struct Panel {
  std::int64_t head, query;  // of its first query
  float *q, *o;              // Q^T and O^T [dim, tile]
  float *most, *total;       // [tile]: m, the reference of the exponents, and the sum of P, per query
  std::int32_t* first_key;   // [tile]
};

// P^T in place of S^T, O^T and the totals rescaled where a new maximum asks for it. Exponents are of base 2: `scale` is
// log2(e) / sqrt(dim). m follows the running maximum only when that has grown by more than 2^5, which leaves float's
// relative precision as it is and makes rescaling rare. Each query's decision is its own.
template <bool masked>
inline void softmax(float* s, std::int64_t first_key, float scale, std::int64_t dim, const Panel& panel,
                    const Ahead& k_ahead, const Ahead& v_ahead) {
  constexpr float slack = 5;
  for (std::int64_t column = 0; column < tile; column += lanes) {
    float* p = s + column;
    Floats most = load(p, Full{});
    if constexpr (masked) {
      Ints first, query;
      std::memcpy(&first, panel.first_key + column, sizeof(first));
      for (int i = 0; i < lanes; ++i) query[i] = static_cast<std::int32_t>(panel.query + column) + i;
      most = Floats{} - std::numeric_limits<float>::infinity();
      for (std::int64_t k = 0; k < tile; ++k) {
        const Ints key = Ints{} + static_cast<std::int32_t>(first_key + k);
        const Floats value = ((key >= first) & (key <= query)) != 0 ? load(p + k * tile, Full{})
                                                                    : Floats{} - std::numeric_limits<float>::infinity();
        store(p + k * tile, value, Full{});
        most = value > most ? value : most;
      }
    } else {
      Floats other = most;
      for (std::int64_t k = 0; k < tile; k += 2) {
        const Floats x = load(p + k * tile, Full{}), y = load(p + (k + 1) * tile, Full{});
        most = x > most ? x : most;
        other = y > other ? y : other;
      }
      most = other > most ? other : most;
    }
    const Floats before = load(panel.most + column, Full{});
    const Floats grown = most * scale > before + slack ? most * scale : before;
    Floats total = load(panel.total + column, Full{});
    bool rescale = false;
    for (int i = 0; i < lanes; ++i) rescale |= grown[i] != before[i];
    if (rescale) {
      const Floats factor = exp2(before - grown);
      total *= factor;
      for (std::int64_t d = 0; d < dim; ++d) {
        float* o = panel.o + d * tile + column;
        store(o, load(o, Full{}) * factor, Full{});
      }
      store(panel.most + column, grown, Full{});
    }
    const Ahead ahead = column == 0 ? k_ahead : column == lanes ? v_ahead : Ahead{};
    Floats sums = {};
    for (std::int64_t k = 0; k < tile; ++k) {
      ahead.fetch(k);
      const Floats value = exp2(load(p + k * tile, Full{}) * scale - grown);
      store(p + k * tile, value, Full{});
      sums += value;
    }
    store(panel.total + column, total + sums, Full{});
  }
}

// O = O^T / sum of P, row by row; lse = ln 2 (m + log2 of the sum).
template <class T>
inline void finish(const Forward<T>& f, const Panel& panel, float* rows) {
  const std::int64_t dim = f.heads.dim;
  for_lanes(tile, [&](std::int64_t i, auto n) MEMO_INLINE {
    const Floats inverse = 1.0f / load(panel.total + i, n);
    for (std::int64_t d = 0; d < dim; ++d) store(panel.o + d * tile + i, load(panel.o + d * tile + i, n) * inverse, n);
  });
  const std::int64_t begin = std::max<std::int64_t>(0, f.first - panel.query);
  const std::int64_t end = std::min(tile, f.last - panel.query);
  for (std::int64_t r = begin; r < end; ++r) {
    const std::int64_t row = panel.query + r - f.first;
    for (std::int64_t d = 0; d < dim; ++d) rows[d] = panel.o[d * tile + r];
    T* o = f.o.row(row) + panel.head * dim;
    for_lanes(dim, [&](std::int64_t i, auto n) MEMO_INLINE { store(o + i, load(rows + i, n), n); });
    f.lse.row(row)[panel.head] = std::numbers::ln2_v<float> * panel.most[r] + std::log(panel.total[r]);
  }
}

template <class T>
void forward_task(const Forward<T>& f, std::int64_t task, float* work) {
  const auto [queries, keys, dim] = f.heads;
  const ForwardTasks tasks(f.heads, f.first, f.last);
  const auto [key_head, first_head, last_head, first_query] = tasks[task];
  const std::int64_t stride = stride_of(dim);
  const float scale = std::numbers::log2e_v<float> / std::sqrt(static_cast<float>(dim));
  float *k = work, *v = k + tile * stride, *s = v + tile * stride;
  work = s + tile * tile;

  Panel panels[most_panels];
  int count = 0;
  for (std::int64_t head = first_head; head < last_head; ++head)
    for (std::int64_t i = 0; i < tasks.tiles(); ++i) {
      const std::int64_t query = first_query + i * tile;
      if (query >= f.last) continue;
      Panel& panel = panels[count++];
      panel = {head,
               query,
               work,
               work + dim * tile,
               work + 2 * dim * tile,
               work + (2 * dim + 1) * tile,
               reinterpret_cast<std::int32_t*>(work + (2 * dim + 2) * tile)};
      work += (2 * dim + 3) * tile;
      pack(f.qkv.row(query) + head * dim, f.qkv.stride, std::min(tile, f.last - query), dim, k);
      transpose(k, stride, dim, panel.q);
      std::fill_n(panel.o, dim * tile, 0.0f);
      std::fill_n(panel.most, tile, -1e30f);  // below all scores, but finite
      std::fill_n(panel.total, tile, 0.0f);
      first_keys(f.visible, query, f.last, panel.first_key);
    }

  const std::int64_t last_query = std::min(first_query + tasks.tiles() * tile, f.last);
  for (std::int64_t key = panels[0].first_key[0] / tile * tile; key < last_query; key += tile) {
    const std::int64_t some = std::min(tile, f.last - key);
    const T *k_rows = f.qkv.row(key) + (queries + key_head) * dim, *v_rows = k_rows + keys * dim;
    pack(k_rows, f.qkv.stride, some, dim, k);
    pack(v_rows, f.qkv.stride, some, dim, v);
    Ahead k_ahead, v_ahead;
    if (key + 2 * tile <= f.last) {
      k_ahead = Ahead::of(k_rows + tile * f.qkv.stride, f.qkv.stride, dim);
      v_ahead = Ahead::of(v_rows + tile * f.qkv.stride, f.qkv.stride, dim);
    }
    for (const Panel& panel : std::span(panels, static_cast<std::size_t>(count))) {
      if (key >= panel.query + tile || key + tile <= panel.first_key[0]) continue;
      product<false, false>(tile, tile, dim, k, stride, panel.q, tile, s, tile);
      const bool whole = panel.first_key[tile - 1] <= key && key + tile <= panel.query + 1;
      (whole ? softmax<false> : softmax<true>)(s, key, scale, dim, panel, k_ahead, v_ahead);
      product<true, true>(dim, tile, tile, v, stride, s, tile, panel.o, tile);
      k_ahead = v_ahead = {};
    }
  }
  for (const Panel& panel : std::span(panels, static_cast<std::size_t>(count))) finish(f, panel, s);
}

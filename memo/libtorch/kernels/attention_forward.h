// Forward, compiled for one instruction set (see attention_tiles.h). A task is up to four panels that go through their
// keys together; a panel is a tile of queries of one head. Scores are held transposed, [keys, queries]: a register
// holds sixteen queries, so maxima and sums need no step across lanes, and K, P and V are laid out as their products
// read them:
//   S^T [keys, queries] = K Q^T, P^T = exp2(S^T - m), O^T [dim, queries] += V^T P^T.

struct Panel {
  std::int64_t head, query;  // `query`: the first one's index
  float *q, *o;              // Q^T and O^T [dim, tile]
  float *most, *total;       // [tile]: m, the reference of the exponents, and the sum of P, per query
  std::int32_t* first_key;   // [tile]
};

// Turns S^T into P^T, words along the keys, and rescales O^T and the totals where a new maximum asks for it. Exponents
// have base 2: `scale` is log2(e) / sqrt(dim). m follows the running maximum only when that has grown by more than 2^5,
// which keeps float's relative precision and makes rescaling rare. Each query decides for itself.
template <bool masked>
inline void softmax(float* s, std::int64_t first_key, float scale, std::int64_t dim, const Panel& panel,
                    const Ahead& k_ahead, const Ahead& v_ahead) {
  constexpr float slack = 5, nothing = -std::numeric_limits<float>::infinity();
  for (std::int64_t column = 0; column < tile; column += MEMO_LANES) {
    Vector most = Vector{} + nothing, other = most;
    if constexpr (masked) {
      const Integers query = counting_from(panel.query + column);
      Integers first;
      std::memcpy(&first, panel.first_key + column, sizeof(first));
      for (std::int64_t k = 0; k < tile; ++k) {
        Vector& score = vector_at(s + k * tile + column);
        const Integers key = Integers{} + static_cast<std::int32_t>(first_key + k);
        score = ((key >= first) & (key <= query)) != 0 ? score : Vector{} + nothing;
        most = score > most ? score : most;
      }
    } else {
      for (std::int64_t k = 0; k < tile; k += 2) {
        const Vector even = vector_at(s + k * tile + column), odd = vector_at(s + (k + 1) * tile + column);
        most = even > most ? even : most;
        other = odd > other ? odd : other;
      }
      most = other > most ? other : most;
    }
    const Vector before = vector_at(panel.most + column);
    const Vector grown = most * scale > before + slack ? most * scale : before;
    bool rescale = false;
    for (int i = 0; i < MEMO_LANES; ++i) rescale |= grown[i] != before[i];
    if (rescale) {
      const Vector factor = exp2(before - grown);
      for (std::int64_t d = 0; d < dim; ++d) vector_at(panel.o + d * tile + column) *= factor;
      vector_at(panel.total + column) *= factor;
      vector_at(panel.most + column) = grown;
    }
    const Ahead ahead = column == 0 ? k_ahead : column == MEMO_LANES ? v_ahead : Ahead{};
    Vector sums = {};
    for (std::int64_t k = 0; k < tile; k += per_word) {
      Vector p[per_word];
      for (std::int64_t i = 0; i < per_word; ++i) {
        ahead.fetch(k + i);
        p[i] = exp2(vector_at(s + (k + i) * tile + column) * scale - grown);
        sums += p[i];
      }
      vector_at(s + k / per_word * tile + column) = word(p);
    }
    vector_at(panel.total + column) += sums;
  }
}

// Lowers the scores [keys, queries] of hidden keys below all others, in the tile of keys that begins at this one.
inline void hide_keys(const Visibility& visible, std::int64_t first_key, float* s) {
  for (std::int64_t k = 0; k < tile; ++k)
    if (visible.hidden(first_key + k)) std::fill_n(s + k * tile, tile, -std::numeric_limits<float>::infinity());
}

// O = O^T / sum of P, row by row; lse = ln 2 (m + log2 of the sum). A query that sees no key gets 0 and infinity, from
// which backward computes a P of 0.
template <class T>
inline void finish(const Forward<T>& f, const Panel& panel, float* rows) {
  const std::int64_t dim = f.heads.dim;
  for (std::int64_t i = 0; i < tile; i += MEMO_LANES) {
    const Vector total = vector_at(panel.total + i), inverse = total == 0.0f ? Vector{} : 1.0f / total;
    for (std::int64_t d = 0; d < dim; ++d) vector_at(panel.o + d * tile + i) *= inverse;
  }
  const std::int64_t begin = std::max<std::int64_t>(0, f.first - panel.query);
  const std::int64_t end = std::min(tile, f.last - panel.query);
  for (std::int64_t r = begin; r < end; ++r) {
    const std::int64_t row = panel.query + r - f.first;
    for (std::int64_t d = 0; d < dim; ++d) rows[d] = panel.o[d * tile + r];
    T* o = f.o.row(row) + panel.head * dim;
    for_lanes(dim, [&](std::int64_t i, auto n) MEMO_INLINE { store(o + i, load(rows + i, n), n); });
    f.lse.row(row)[panel.head] = panel.total[r] == 0.0f
                                     ? std::numeric_limits<float>::infinity()
                                     : std::numbers::ln2_v<float> * panel.most[r] + std::log(panel.total[r]);
  }
}

template <class T>
void forward_task(const Forward<T>& f, std::int64_t task, float* work) {
  const auto [queries, keys, dim, softcap] = f.heads;
  const float cap = softcap * std::sqrt(static_cast<float>(dim));
  const ForwardTasks tasks(f.heads, f.first, f.last);
  const auto [key_head, first_head, last_head, first_query] = tasks[task];
  const std::int64_t k_stride = stride_of(words(dim)), v_stride = stride_of(dim);
  const float scale = std::numbers::log2e_v<float> / std::sqrt(static_cast<float>(dim));
  const auto take = [&work](std::int64_t floats) { return std::exchange(work, work + floats); };
  float *k = take(tile * k_stride), *v = take(words(tile) * v_stride), *s = take(tile * tile);

  Panel panels[most_panels];
  int count = 0;
  for (std::int64_t head = first_head; head < last_head; ++head)
    for (std::int64_t i = 0; i < tasks.tiles(); ++i) {
      const std::int64_t query = first_query + i * tile;
      if (query >= f.last || query + tile <= f.first) continue;
      float *q = take(words(dim) * tile), *o = take(o_rows(dim) * tile), *most = take(tile), *total = take(tile);
      Panel& panel = panels[count++];
      panel = {head, query, q, o, most, total, reinterpret_cast<std::int32_t*>(take(tile))};
      pack(f.qkv.row(query) + head * dim, f.qkv.stride, std::min(tile, f.last - query), dim, k);
      transpose(k, k_stride, words(dim), panel.q);
      std::fill_n(panel.o, o_rows(dim) * tile, 0.0f);
      std::fill_n(panel.most, tile, -1e30f);  // below all scores, but finite
      std::fill_n(panel.total, tile, 0.0f);
      first_keys(f.visible, query, f.last, panel.first_key);
    }

  const std::int64_t last_query = std::min(first_query + tasks.tiles() * tile, f.last);
  for (std::int64_t key = panels[0].first_key[0] / tile * tile; key < last_query; key += tile) {
    const std::int64_t some = std::min(tile, f.last - key);
    const T *k_rows = f.qkv.row(key) + (queries + key_head) * dim, *v_rows = k_rows + keys * dim;
    pack(k_rows, f.qkv.stride, some, dim, k);
    pack_along(v_rows, f.qkv.stride, some, dim, v);
    const bool any_hidden = f.visible.any_hidden(key, key + some);
    Ahead k_ahead, v_ahead;
    if (key + 2 * tile <= f.last) {
      k_ahead = Ahead::of(k_rows + tile * f.qkv.stride, f.qkv.stride, dim);
      v_ahead = Ahead::of(v_rows + tile * f.qkv.stride, f.qkv.stride, dim);
    }
    for (const Panel& panel : std::span(panels, static_cast<std::size_t>(count))) {
      if (key >= panel.query + tile || key + tile <= panel.first_key[0]) continue;
      product<false, false>(tile, tile, words(dim), k, k_stride, panel.q, tile, s, tile);
      if (cap > 0) cap_scores(s, tile, tile, tile, cap);
      if (any_hidden) hide_keys(f.visible, key, s);
      const bool whole = panel.first_key[tile - 1] <= key && key + tile <= panel.query + 1;
      (whole ? softmax<false> : softmax<true>)(s, key, scale, dim, panel, k_ahead, v_ahead);
      product<true, true>(o_rows(dim), tile, words(tile), v, v_stride, s, tile, panel.o, tile);
      k_ahead = v_ahead = {};
    }
  }
  for (const Panel& panel : std::span(panels, static_cast<std::size_t>(count))) finish(f, panel, s);
}

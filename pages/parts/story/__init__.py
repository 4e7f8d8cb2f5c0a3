"""The guided story of one model, told in chapters: its place, its texts, its pictures."""

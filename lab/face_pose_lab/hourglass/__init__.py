"""The stacked hourglass of Pavlakos et al., a teacher: from all around, trained on renders."""
